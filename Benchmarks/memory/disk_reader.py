#!/usr/bin/env python3
"""Reads a file again and again past the page cache at a given rate: what a disk at work costs a run beside it.

    python3 Benchmarks/memory/disk_reader.py FILE GB_PER_SECOND SECONDS

Prints the rate reached and the processor time of its own per GB.
"""
import mmap
import os
import sys
import time

PIECE = 4 << 20


def main():
    path, rate, seconds = sys.argv[1], float(sys.argv[2]) * 1e9, float(sys.argv[3])
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    pieces = max(1, os.fstat(file).st_size // PIECE)
    buffer = mmap.mmap(-1, PIECE)  # direct reads need whole pages
    began, done = time.time(), 0
    while time.time() - began < seconds:
        done += os.preadv(file, [buffer], done // PIECE % pieces * PIECE)
        time.sleep(max(0, done / rate - (time.time() - began)))
    used = os.times()
    print(f"{done / 1e9 / (time.time() - began):.2f} GB/s, {(used.user + used.system) / done * 1e9:.3f} processor s per GB")


main()
