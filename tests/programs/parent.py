# SPDX-License-Identifier: GPL-2.0
# parent.py MIB: a pool of forked children sums parts of an array that the parent goes on to change; what a
# child writes is its own.
import multiprocessing, os, subprocess, sys, zlib

size = int(sys.argv[1]) << 20
for i in range(9):                      # what the array is not, so that it is made after others came and went
    bytes((3 << 20) + i)
pattern = bytes((i * i * 7 + i // 251) & 255 for i in range(1 << 16))
whole = memoryview(bytearray(pattern) * (size >> 16))
step = size // 4
for i in range(4):
    whole[i * step + 12345] = i


def parts():
    return [zlib.adler32(whole[at:at + step]) for at in range(0, size, step)]


def part(i):
    before = zlib.adler32(whole[i * step:(i + 1) * step])
    whole[i * step] ^= 255
    after = zlib.adler32(whole[i * step:i * step + (1 << 21)])
    whole[i * step] ^= 255
    return before, after


context = multiprocessing.get_context('fork')
before = parts()
with context.Pool(2) as pool:
    # The children have what was there when they were made.
    whole[0:1 << 22] = bytes(1 << 22)
    sums = pool.map(part, range(4), 1)
after = parts()
print(before == [s[0] for s in sums], [s[1] for s in sums], after[0], before[1:] == after[1:])
# a new child sees the change
pid = os.fork()
if not pid:
    os._exit(whole[0] == 0 and whole[size - 1] == pattern[-1])
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(subprocess.run(['cksum'], input=whole[:8 << 20], stdout=subprocess.PIPE).stdout)
