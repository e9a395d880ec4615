#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The debug kernel is what it says it is: its silence about the other programs means something only
# if it would have spoken.  run-tests looks after each program that lockdep and kmemleak still do.
set -u
# shellcheck source=tests/vm/tap
. ./tap

debugfs=/sys/kernel/debug

# The kernel that runs has every option of the list, by its own account.
options()
{
	zcat /proc/config.gz >running || return 1
	sed -n '/^CONFIG_/p; s/^# \(CONFIG_[A-Z0-9_]*\) is not set$/\1/p' config >wanted
	grep -q '^CONFIG_KASAN=y$' wanted || return 1
	good=0
	while read -r line; do
		case $line in
		*=*) grep -qxF "$line" running ;;
		*) ! grep -q "^$line=" running ;;
		esac || {
			echo "# not so: $line"
			good=1
		}
	done <wanted
	return $good
}

# The trigger runs reclaim under fs_reclaim: lockdep knows our lock and that order.
lock_order()
{
	echo 1 >$debugfs/hakmem_region/shrink || return 1
	awk '/[+.?-]: hkr_trigger_lock$/ { ours = 1; next } ours && /^$/ { exit } ours && /-> .*fs_reclaim/ { found = 1 }
		END { exit !found }' /proc/lockdep
}

# Both: that of the pool and of arenas without a group, and that of groups, which is asked for the root's.
shrinkers()
{
	plain=$(echo $debugfs/shrinker/hakmem_region-[0-9]*)
	group=$(echo $debugfs/shrinker/hakmem_region-memcg-*)
	cat "$plain/count" "$group/count" >/dev/null && echo 0 0 512 >"$plain/scan" &&
		echo "$(stat -c %i /sys/fs/cgroup) 0 512" >"$group/scan"
}

echo "TAP version 13"
echo "1..6"
options
result "running kernel has the options"
dmesg | grep -q 'KernelAddressSanitizer initialized'
result "KASAN is at work"
lock_order
result "lockdep follows our locks"
grep -q 'page_poison=1' /proc/cmdline
result "free pages are poisoned"
echo scan >$debugfs/kmemleak
result "kmemleak scans"
shrinkers
result "shrinkers are known to the core by name"
exit $bad
