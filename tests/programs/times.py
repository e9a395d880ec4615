# SPDX-License-Identifier: GPL-2.0
# times.py PAIRS LIB [PROGRAM...]: programs of tests/programs/programs, each with LIB preloaded and without, in
# pairs of which now the one and now the other is first: medians of wall and of CPU time, all processes of
# the program together, and the medians of the pairs' ratios, as a table. The goal is that none takes more than 3 %
# longer: is it met, not met, or still open, for all that is known of the median of wall time's ratio from so many
# pairs? Exit status: 0 where it is met by all.
import math, os, statistics, subprocess, sys, tempfile, time

ALL = 'git_ sqlite perl_ tar_xz python parent numpy sort_ gcc_ cxx redis imagemagick ffmpeg_ node_ java_'.split()
GOAL, SURE = 1.03, 0.95
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


def ratios(times, what):
    return sorted(t[1][what] / max(t[0][what], 1e-3) for t in times)


def interval(ordered):
    """Where the median of all pairs that there could be is: as many of those seen are below it as a fair coin
    falls on one side, whatever their distribution. None where so few pairs say nothing."""
    n = len(ordered)
    below, k = 0.0, 0
    while k < n and 2 * (below + math.comb(n, k) / 2 ** n) <= 1 - SURE:
        below += math.comb(n, k) / 2 ** n
        k += 1
    return (ordered[k - 1], ordered[n - k]) if k else None


def verdict(where):
    if not where:
        return 'open: %d %% takes 6 pairs' % (100 * SURE)
    how = 'met' if where[1] <= GOAL else 'not met' if where[0] > GOAL else 'open'
    return '%s: %.3f-%.3f' % ((how,) + where)


def row(name, times):
    cells = [name]
    for what in 0, 1:
        for which in 0, 1:
            cells.append('%.3f' % statistics.median(t[which][what] for t in times))
        ordered = ratios(times, what)
        cells.append('%.3f' % statistics.median(ordered))
        cells.append('%.2f-%.2f' % (ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]))
    return cells + [verdict(interval(ratios(times, 0)))]


FORMAT = '%-12s' + 2 * ' %9s %9s %7s %10s' + '  %s'
print('# %d pairs; seconds; ratio: with the library to without, the median and the middle half' % pairs)
print('# goal: that of wall time is %.2f at the most; where its median is by %d %%' % (GOAL, 100 * SURE))
print(FORMAT % ('program', 'wall', 'with', 'ratio', '', 'CPU', 'with', 'ratio', '', 'goal'))
count = dict.fromkeys(('met', 'not met', 'open', 'did not run'), 0)
for name in names:
    times = measure(name)
    cells = row(name, times) if times else [name] + 8 * [''] + ['did not run: see what it says in make check-programs']
    print((FORMAT % tuple(cells)).rstrip(), flush=True)
    count[cells[-1].split(':')[0]] += 1
print('goal: ' + ', '.join('%s %d' % (how, count[how]) for how in count)
      + ('; more pairs (PAIRS=) close what is open' if count['open'] else ''))
sys.exit(count['met'] != len(names))
