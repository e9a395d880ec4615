# SPDX-License-Identifier: GPL-2.0
# Memory ends, more than once, and the program goes on.
import sys

try:
    bytes(1 << 40)
except MemoryError:
    print('no block of 1 TiB')
for size in 16 << 20, 3 << 20, 100 << 20:
    blocks = []
    try:
        while len(blocks) << 20 < 1 << 40:
            blocks.append(bytearray(size))
    except MemoryError:
        print('no more blocks of', size)
    # Addresses that are kept for whales may be few and in the way of others: a third of them is there.
    if len(blocks) * size < 200 << 20:
        print('only', len(blocks), 'blocks of', size)
    if any(b[0] or b[size - 1] for b in blocks):
        print('blocks are not zero')
    blocks = None
grown = bytearray()
try:
    while True:
        grown.extend(b'grow' * 500000)
except MemoryError:
    print('no more growth')
if grown.count(b'grow') * 4 != len(grown):
    print('what had grown is another')
grown = None
print(len(bytearray(64 << 20)))
