"""What the operator decides, as plain functions over plain data: no I/O, no clock."""
