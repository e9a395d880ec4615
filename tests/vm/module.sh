#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The module: loading, unloading, parameters, sysfs.  Loads it itself (settings: module=none).
set -u
# shellcheck source=tests/vm/tap
. ./tap

ko=modules/plain.ko
dir=/sys/class/misc/hakmem_region

say() { echo "# $*"; }

# Everything the kernel has said since the marker before.
mark() { echo "<5>module.sh: mark $n" >/dev/kmsg; }
since_mark()
{
	dmesg | awk -v m="module.sh: mark $n" 'index($0, m) { t = "" } { t = t $0 "\n" } END { printf "%s", t }'
}

# refused ARGS... -- PATTERN: loading fails and the kernel says why
refused()
{
	pattern=$1
	shift
	mark
	if insmod "$ko" "$@" 2>err; then
		say "loaded with $*"
		rmmod hakmem_region
		return 1
	fi
	since_mark | grep -q "$pattern" || {
		say "insmod: $(cat err); the kernel:"
		since_mark | sed 's/^/# /'
		return 1
	}
	! [ -e "$dir" ]
}

cycles()
{
	mark
	i=0
	while [ $i -lt 50 ]; do
		# In turn with the thread at work, done, and with nothing to do.
		insmod "$ko" reserve_mb=$((i % 3 * 16)) || return 1
		[ -c /dev/hakmem_region ] || return 1
		[ $((i % 5)) != 0 ] || sleep 0.05
		rmmod hakmem_region || return 1
		i=$((i + 1))
	done
	[ "$(since_mark | grep -c 'unloaded, 0 live folios')" = 50 ]
}

attributes()
{
	for a in charged_folios clean dirty epoch idle idle_bytes init_on_free live_folios orphans poisoned \
		pool_depth resident single_slots zero_background_ns zero_inline_ns zero_pauses_busy \
		zero_pauses_pressure zero_pauses_rate zeroed_background_bytes zeroed_inline_bytes; do
		v=$(cat "$dir/$a") || return 1
		case $v in
		'' | *[!0-9]*)
			say "$a is '$v'"
			return 1
			;;
		esac
		# Nothing here is to be written.
		if echo 1 2>/dev/null >"$dir/$a"; then
			say "$a can be written"
			return 1
		fi
	done
}

becomes()
{
	i=0
	while [ "$(cat "$dir/$1")" != "$2" ]; do
		i=$((i + 1))
		[ $i -lt 30 ] || {
			say "$1 is $(cat "$dir/$1"), not $2"
			return 1
		}
		sleep 0.1
	done
}

echo "TAP version 13"
echo "1..19"

refused 'reserve_mb=.*more than half' reserve_mb=1000000
result "reserve_mb beyond memory is refused"
refused 'pool_max_mb=16 is less than reserve_mb=64' reserve_mb=64 pool_max_mb=16
result "pool_max_mb below reserve_mb is refused"
refused 'open_max_mb' open_max_mb=1
result "open_max_mb below a slot is refused"
refused 'user_max_mb' user_max_mb=1
result "user_max_mb below a slot is refused"
refused 'total_max_mb' total_max_mb=1
result "total_max_mb below a slot is refused"
refused 'invalid for parameter' reserve_mb=many
result "a parameter that is no number is refused"
refused 'charge=often is not auto, always or never' charge=often
result "an unknown way to charge is refused"
refused 'zero_low_mb=64 is more than zero_high_mb=32' zero_high_mb=32 zero_low_mb=64
result "a low mark above the high one is refused"
refused 'zero_rate_mb is 0 for no limit' zero_rate_mb=1048577
result "a rate beyond reason is refused"
refused 'zero_background is on or off' zero_background=sometimes
result "zeroing that is neither on nor off is refused"

insmod "$ko" reserve_mb=32 && attributes
result "attributes are numbers and read-only"
becomes clean 16 && becomes live_folios 16
result "the reserve is taken at load"
[ "$(cat /sys/module/hakmem_region/parameters/reserve_mb)" = 32 ]
result "parameters can be read back"
exec 9</dev/hakmem_region
if rmmod hakmem_region 2>/dev/null; then
	false
else
	exec 9<&-
	rmmod hakmem_region
fi
result "unloading is refused while a file is open, and works after"

insmod "$ko" reserve_mb=0 && becomes live_folios 0 && becomes pool_depth 0 &&
	exec 9</dev/hakmem_region && exec 9<&- && rmmod hakmem_region
result "a reserve of nothing works"

insmod "$ko" charge=never && ./charge >out.charge 2>&1
result "charge=never charges nobody"
rmmod hakmem_region
result "and the module goes again"

cycles
result "50 times loaded and unloaded, no folio is left"
! dmesg | grep -E "$(cat splats)" | sed 's/^/# /' | grep .
result "the kernel has not complained"
exit $bad
