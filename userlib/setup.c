// SPDX-License-Identifier: MIT
/*
 * How the heap is set up: by hkm_init(), which tells what the program was told, or
 * by the first whale, which has what the environment says. Never at load: a
 * program that links the library and needs no whale pays nothing.
 *
 * Each setting is looked up once. What a program says goes before the
 * environment, and that before HAKMEM_MODE, which is a set of defaults.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "cache.h"
#include "env.h"
#include "heap.h"
#include "lock.h"
#include "machine.h"
#include "setup.h"
#include "sys.h"
#include "threshold.h"
#include "whale.h"

/* Atomic, each for itself. */
bool hkm_aligned_from_region;
static int trim_said = -1;	/* by the program, for good; enum hkm_trim or -1 */

static const char *const source_words[] = { "auto", "anon", "region", NULL };
static const char *const policy_words[] = {
	"decay", "keep", "dontneed", "free", "region", NULL,
};
static const char *const order_words[] = { "hot", "fifo", NULL };
static const char *const aligned_words[] = { "anon", "region", NULL };
static const char *const trim_words[] = { "off", "thread", "psi", NULL };
static const char *const capacity_words[] = { "fixed", "auto", NULL };
static const char *const mode_words[] = { "minimal", "balanced", "fast", NULL };

/**
 * struct mode - HAKMEM_MODE: defaults that fit together
 * @policy: of idle anonymous whales
 * @share: the limit on idle bytes is one part in so many of memory
 */
static const struct mode {
	enum hkm_policy policy;
	unsigned int share;
} modes[] = {
	{ HKM_POLICY_DONTNEED, 64 },
	{ HKM_POLICY_DECAY, 8 },
	{ HKM_POLICY_KEEP, 4 },
};

/* ON or OFF: what the program says, else the environment, else @def. */
static void settle(enum hkm_switch *set, enum hkm_env var, bool def)
{
	if (*set == HKM_SWITCH_DEFAULT)
		def = hkm_env_flag_or(var, def);
	if (*set < HKM_SWITCH_ON)
		*set = def ? HKM_SWITCH_ON : HKM_SWITCH_OFF;
}

static void settle_switches(struct hkm_config *cfg)
{
	static const char *const auto_on_off[] = { "auto", "on", "off", NULL };

	if (!cfg->move)
		cfg->move = HKM_SWITCH_AUTO + (enum hkm_switch)hkm_env_choice(
				HAKMEM_MOVE, auto_on_off, 0);
	if (!cfg->aligned)
		cfg->aligned = HKM_ALIGNED_ANON + (enum hkm_aligned)hkm_env_choice(
				HAKMEM_ALIGNED, aligned_words, 0);
	settle(&cfg->name, HAKMEM_NAME, hkm_front.names);
	settle(&cfg->guard, HAKMEM_GUARD, false);
	settle(&cfg->pack, HAKMEM_PACK, true);
	settle(&cfg->colour, HAKMEM_COLOUR, true);
}

/* What is 0 in @cfg and may be left to the environment is taken from there. */
static void fill_in(struct hkm_config *cfg, const struct mode *mode)
{
	size_t memory = hkm_machine_learn().memory, decay;

	if (!cfg->slots)
		hkm_env_number(HAKMEM_WHALE_SLOTS, 1, HKM_SLOTS_MAX,
			       HKM_CACHE_DEFAULT, &cfg->slots);
	if (!cfg->limit)
		hkm_env_bytes(HAKMEM_LIMIT, 0, PTRDIFF_MAX,
			      memory / mode->share, &cfg->limit);
	if (!cfg->exchange)
		hkm_env_bytes(HAKMEM_CALLOC_EXCHANGE, 1, PTRDIFF_MAX, 0,
			      &cfg->exchange);
	if (!cfg->decay_ms) {
		hkm_env_number(HAKMEM_DECAY_MS, 1, 1000 * 3600, 1000, &decay);
		cfg->decay_ms = (uint32_t)decay;
	}
	settle_switches(cfg);
}

static const struct mode *read_environment(struct hkm_config *cfg)
{
	const struct mode *mode;

	mode = &modes[hkm_env_choice(HAKMEM_MODE, mode_words, 1)];
	*cfg = (struct hkm_config){ 0 };
	cfg->source = (enum hkm_source)hkm_env_choice(HAKMEM_SOURCE,
						      source_words,
						      (int)hkm_front.source);
	cfg->policy = (enum hkm_policy)hkm_env_choice(HAKMEM_POLICY,
						      policy_words,
						      (int)mode->policy);
	cfg->order = (enum hkm_order)hkm_env_choice(HAKMEM_WHALE_ORDER,
						    order_words, 0);
	cfg->capacity = (enum hkm_capacity)hkm_env_choice(HAKMEM_CAPACITY,
							  capacity_words, 0);
	cfg->sites = hkm_env_flag(HAKMEM_SITES);
	return mode;
}

/* by the program */
static const struct mode *as_told(const struct hkm_config *cfg,
				  struct hkm_config *full)
{
	const struct mode *mode;

	mode = &modes[(cfg->mode ?: HKM_MODE_BALANCED) - HKM_MODE_MINIMAL];
	*full = *cfg;
	if (!full->policy)
		full->policy = mode->policy;
	return mode;
}

/*
 * What the program says goes before the environment, also if it says so while another
 * thread is in here: of two that exchange trim_said the later one sets what it is.
 */
static void set_trim(void)
{
	int said = read_once(&trim_said), how;

	do {
		how = said >= 0 ? said : hkm_env_choice(HAKMEM_TRIM,
							trim_words, 0);
		hkm_whale_set_trim((enum hkm_trim)how);
	} while (!__atomic_compare_exchange_n(&trim_said, &said, said, false,
					      __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
}

/* Only the device leaves it to the kernel. What does not fit there must go in time. */
static void want_region(struct hkm_config *cfg)
{
	if (cfg->policy != HKM_POLICY_REGION)
		return;
	cfg->policy = HKM_POLICY_DECAY;
	cfg->source = HKM_SOURCE_REGION;
}

static int open_heap(struct hkm_config *cfg, const struct mode *mode)
{
	int err;

	want_region(cfg);
	fill_in(cfg, mode);
	hkm_lock(&hkm_setup_lock);
	if (!hkm_whale_is_open())
		write_once(&hkm_aligned_from_region,
			   cfg->aligned == HKM_ALIGNED_REGION);
	err = hkm_whale_open(cfg);
	hkm_unlock(&hkm_setup_lock);
	if (!err)	/* without the lock, because it may start a thread */
		set_trim();
	return err;
}

static bool is_valid_threshold(size_t size)
{
	return !size || size == HKM_THRESHOLD_AUTO ||
	       (size >= HKM_THRESHOLD_MIN && size <= HKM_THRESHOLD_MAX);
}

/* There are guards in anonymous memory only. */
static bool are_valid_guards(const struct hkm_config *cfg)
{
	return (unsigned int)cfg->guard < HKM_SWITCH_ON ||
	       cfg->guard == HKM_SWITCH_OFF ||
	       (cfg->guard == HKM_SWITCH_ON &&
		cfg->source != HKM_SOURCE_REGION &&
		cfg->policy != HKM_POLICY_REGION);
}

static bool are_valid_switches(const struct hkm_config *cfg)
{
	return (unsigned int)cfg->aligned <= HKM_ALIGNED_REGION &&
	       (unsigned int)cfg->move <= HKM_SWITCH_OFF &&
	       (unsigned int)cfg->name <= HKM_SWITCH_OFF &&
	       (unsigned int)cfg->pack <= HKM_SWITCH_OFF &&
	       (unsigned int)cfg->colour <= HKM_SWITCH_OFF &&
	       are_valid_guards(cfg);
}

static bool is_reserved_zero(const struct hkm_config *cfg)
{
	for (size_t i = 0; i < sizeof(cfg->reserved) / sizeof(*cfg->reserved); i++)
		if (cfg->reserved[i])
			return false;
	return true;
}

static bool is_valid(const struct hkm_config *cfg)
{
	return (unsigned int)cfg->source <= HKM_SOURCE_REGION &&
	       (unsigned int)cfg->policy <= HKM_POLICY_REGION &&
	       (cfg->policy != HKM_POLICY_REGION ||
		cfg->source != HKM_SOURCE_ANON) &&
	       (unsigned int)cfg->order <= HKM_FIFO &&
	       (unsigned int)cfg->capacity <= HKM_CAPACITY_AUTO &&
	       (unsigned int)cfg->mode <= HKM_MODE_FAST &&
	       (unsigned int)cfg->thp <= HKM_THP_OFF && are_valid_switches(cfg) &&
	       is_reserved_zero(cfg) &&
	       cfg->slots <= HKM_SLOTS_MAX && is_valid_threshold(cfg->threshold);
}

/* Two that contradict each other: what is said of the source is the stronger word. */
static cold const char *settle_region(struct hkm_config *cfg)
{
	static bool told;

	if (cfg->policy != HKM_POLICY_REGION)
		return "HAKMEM_SOURCE";
	if (cfg->source == HKM_SOURCE_ANON) {
		cfg->policy = HKM_POLICY_DECAY;
		if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
			hkm_message("HAKMEM_POLICY=region is of no use with HAKMEM_SOURCE=anon; using decay");
	}
	return "HAKMEM_POLICY";
}

int hkm_init(const struct hkm_config *cfg)
{
	struct hkm_config full;
	const struct mode *mode;
	int err;

	if (cfg && !is_valid(cfg))
		return -EINVAL;
	mode = cfg ? as_told(cfg, &full) : read_environment(&full);
	settle_region(&full);
	err = open_heap(&full, mode);
	if (err)
		return err;
	if (full.threshold)
		hkm_threshold_choose(full.threshold);
	else
		hkm_threshold_read_environment();
	return 0;
}

/* Nobody is there to hear of an error: say it, and do what works. */
cold bool hkm_setup_unasked(void)
{
	static bool told;
	struct hkm_config cfg;
	const struct mode *mode;
	const char *why;
	int err;

	mode = read_environment(&cfg);
	why = settle_region(&cfg);
	err = open_heap(&cfg, mode);
	if (!err || err == -EALREADY)
		return true;
	if (cfg.source != HKM_SOURCE_REGION)
		return false;
	if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
		hkm_message("%s=region: " HKM_DEVICE " cannot be used (%s); using anon",
			    why, strerrordesc_np(-err));
	cfg.source = HKM_SOURCE_ANON;
	err = open_heap(&cfg, mode);
	return !err || err == -EALREADY;
}

void hkm_shutdown(void)
{
	hkm_lock(&hkm_setup_lock);
	hkm_whale_close();
	hkm_unlock(&hkm_setup_lock);
}

int hkm_set_trim(enum hkm_trim how)
{
	if ((unsigned int)how > HKM_TRIM_PSI)
		return -EINVAL;
	__atomic_exchange_n(&trim_said, (int)how, __ATOMIC_ACQ_REL);
	set_trim();
	return 0;
}
