# SPDX-License-Identifier: GPL-2.0
# Bytes of many sizes, arrays, a pool of forked children that read what the parent had, a command.
import array, json, multiprocessing, subprocess, sys, zlib

data = open(sys.argv[1], 'rb').read()
parts = [bytes(data[:n]) for n in range(2 << 20, 4 << 20, 1 << 18)]
print(zlib.crc32(b''.join(reversed(parts))), zlib.crc32(zlib.compress(data, 1)))
grown = bytearray()
for part in parts:
    grown += part
a = array.array('Q', range(1000000))
print(len(grown), sum(a), len(json.dumps(list(range(300000)))))
print(sum(zlib.adler32(bytes(n)) for n in range(2 << 20, 9 << 20, 300007)))


def child(n):
    return zlib.crc32(grown[n:])          # of the parent


with multiprocessing.get_context('fork').Pool(2) as pool:
    print(pool.map(child, range(4)))
# as the library's window is found: by vfork(), and by fork() where something is to be done before exec
for first in None, lambda: grown.extend(bytes(3 << 20)):
    done = subprocess.run(['cksum'], input=bytes(grown), stdout=subprocess.PIPE, preexec_fn=first)
    print(done.returncode, done.stdout)
