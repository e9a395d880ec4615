# SPDX-License-Identifier: GPL-2.0
# times.py PAIRS LIB [PROGRAM...]: programs of tests/programs/programs, each with LIB preloaded and without, in
# pairs of which now the one and now the other is first: medians of wall and of CPU time, all processes of
# the program together, and the medians of the pairs' ratios, as a table.
import os, statistics, subprocess, sys, tempfile, time

ALL = 'git_ sqlite perl_ tar_xz python parent numpy sort_ gcc_ cxx redis imagemagick ffmpeg_ node_ java_'.split()
pairs, lib, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:] or ALL


def cpu():
    t = os.times()
    return t.children_user + t.children_system


def run(name, env):
    with tempfile.TemporaryDirectory() as where:
        wall, used = time.monotonic(), cpu()
        done = subprocess.run(['sh', os.environ['HERE'] + '/programs', name], cwd=where, env=env,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall, used = time.monotonic() - wall, cpu() - used
    return (wall, used) if done.returncode == 0 else None


def measure(name):
    plain, preloaded = dict(os.environ), dict(os.environ, LD_PRELOAD=lib)
    times = []
    for i in range(-1, pairs):          # the first pair warms up
        both = [run(name, env) for env in ((plain, preloaded) if i % 2 else (preloaded, plain))]
        if None in both:
            return None
        if i >= 0:
            times.append(both if i % 2 else both[::-1])
    return times


def row(name, times):
    cells = [name]
    for what in 0, 1:
        for which in 0, 1:
            cells.append('%.3f' % statistics.median(t[which][what] for t in times))
        ratios = sorted(t[1][what] / max(t[0][what], 1e-3) for t in times)
        cells.append('%.3f' % statistics.median(ratios))
        cells.append('%.2f-%.2f' % (ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]))
    return cells


FORMAT = '%-12s' + 2 * ' %9s %9s %7s %10s'
print('# %d pairs; seconds; ratio: with the library to without, the median and the middle half' % pairs)
print(FORMAT % ('program', 'wall', 'with', 'ratio', '', 'CPU', 'with', 'ratio', ''))
for name in names:
    times = measure(name)
    if times:
        print(FORMAT % tuple(row(name, times)), flush=True)
    else:
        print('%-12s does not run here' % name, flush=True)
