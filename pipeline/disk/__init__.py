"""What lies on a disk: bytes, rows, tensors, tables, locks. It knows no subject."""
