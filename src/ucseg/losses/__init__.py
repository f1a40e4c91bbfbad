"""Losses: functions of tensors, one equation each, with an oracle in tests/oracles."""
