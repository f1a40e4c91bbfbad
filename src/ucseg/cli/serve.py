"""`ucseg serve`: the model and the dataset for viewers (3D Slicer, OHIF) and for a browser."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from ucseg.cli.terminal import say
from ucseg.errors import UserError

SHORTEST = 12
"""Letters of a token, where others can connect and try."""


def serve(
    run: Annotated[Path, typer.Argument(help="Folder that `ucseg train` wrote.")],
    dataset: Annotated[Path, typer.Argument(help="Dataset that `ucseg init` wrote.")],
    *,
    host: Annotated[str, typer.Option(help="Address to listen at; with another one a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8000,
    token: Annotated[
        str | None, typer.Option(help="What clients must know; default: one is made where others can connect.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name by which clients call this machine. May be repeated.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Address of a web page that may ask, such as OHIF's: http://HOST:PORT. May be repeated."),
    ] = None,
    max_upload: Annotated[int, typer.Option(min=1, help="Largest body that is taken, in MiB.")] = 1024,
    checkpoint: Annotated[str, typer.Option(help="Weights: last, best (on validation cases) or ema.")] = "last",
    device: Annotated[str, typer.Option(help="Of prediction: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    mirror: Annotated[bool, typer.Option(help="Also predict mirrored, and take the mean.")] = True,
    look_ahead: Annotated[
        bool, typer.Option(help="Predict unlabelled scans while nothing else is to do, to sort the queue.")
    ] = True,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of a training that a client asks for; default: a third of the run's.")
    ] = None,
    set: Annotated[  # the command line's word
        list[str] | None, typer.Option(help="key=value, as of `ucseg train`: for the trainings. May be repeated.")
    ] = None,
) -> None:
    """Serve a model and a dataset to 3D Slicer, OHIF and a browser: look, correct, save, train again.

    The plug-ins of MONAI Label connect to the address. A browser gets a page with the queue of unlabelled scans.
    Labels go into DATA/labels, a new file each, and cases.csv names the newest. Trainings go into DATA/trainings.
    Needs `pip install 'ucseg[serve]'`. Ctrl-C ends it; a training saves first, and goes on with the next start.

    Raises:
        UserError: the server cannot start.
    """
    try:
        import uvicorn

        from ucseg.serving.app import make_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "starlette", "python_multipart", "anyio"):
            raise
        raise UserError("serve-extra", "'ucseg serve' needs more packages; run pip install 'ucseg[serve]'.") from None
    from ucseg.serving.session import Session

    here = is_loopback(host)
    known = token if token is not None else "" if here else secrets.token_urlsafe(24)
    if not here and len(known) < SHORTEST:
        raise UserError(
            "serve-token",
            f"--token: has fewer than {SHORTEST} letters; give a longer one, or leave it out for a new one.",
        )
    if not known.isascii() or not known.isprintable():
        raise UserError(
            "serve-token-letters", "--token: holds letters that no header may hold; use a to z, digits, - and _."
        )
    socket_ = _listening(host, port)
    try:
        session = Session(dataset, run, checkpoint, {"device": device, "mirror": mirror}, set or [], steps, look_ahead)
    except BaseException:
        socket_.close()
        raise
    try:
        names = [*(allow_host or []), host]
        app = make_app(session, token=known, hosts=names, origins=allow_origin or [], longest=max_upload << 20)
        name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # others do not know it by "any address"
        address = f"http://{f'[{name}]' if ':' in name else name}:{socket_.getsockname()[1]}"
        say("serving", f"Serving {session.data} with {session.model.run}; Ctrl-C ends it.")
        say("serve-address", f"In a browser: {address}/{f'enter?token={quote(known)}' if known else ''}")
        say("serve-viewers", f"In 3D Slicer and OHIF: {address}{' (password: the token)' if known else ''}")
        session.start()
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=10)
        uvicorn.Server(config).run(sockets=[socket_])
    except KeyboardInterrupt:  # Ctrl-C is how a server ends
        if session.trainings.running is not None:
            say("serve-saves", "Stopping: the training saves first. It goes on with the next 'ucseg serve'.")
        else:
            say("serve-ended", "Ended.")
    finally:
        session.close()
        socket_.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything is loaded: a port that is taken is refused at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise UserError(
            "serve-port", f"{host}:{port}: cannot be listened at ({error.strerror}); choose another --host or --port."
        ) from None
    made.setblocking(False)
    return made
