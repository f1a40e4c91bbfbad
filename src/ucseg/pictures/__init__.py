"""What people look at: pages of one file, pictures of cases, the contact sheet of a dataset."""
