"""The machine that tests run on: processes, disks, memory, clocks."""
