// SPDX-License-Identifier: MIT
/*
 * hkm_whale_*: the one ring of the process, for programs that map their blocks
 * themselves. It is set up by the first call that needs it.
 */
#include <errno.h>

#include "env.h"
#include "ring.h"

static struct hkm_ring ring = HKM_RING_INIT;

__attribute__((constructor)) static void register_ring(void)
{
	hkm_ring_register(&ring);
}

int hkm_whale_init(const struct hkm_whale_config *cfg)
{
	struct hkm_whale_config full = cfg ? *cfg : (struct hkm_whale_config){ 0 };
	int err;

	if (!full.slots) {
		err = hkm_env_slots(&full.slots);
		if (err)
			return err;
	}

	hkm_lock(&hkm_setup_lock);
	err = hkm_ring_setup(&ring, &full);
	hkm_unlock(&hkm_setup_lock);
	return err;
}

/* -EALREADY is success: another thread was faster. */
static cold int set_up_with_defaults(void)
{
	struct hkm_whale_config cfg = { 0 };
	int err;

	hkm_env_slots(&cfg.slots);
	hkm_lock(&hkm_setup_lock);
	err = hkm_ring_setup(&ring, &cfg);
	hkm_unlock(&hkm_setup_lock);
	return err == -EALREADY ? 0 : err;
}

static bool is_set_up(void)
{
	struct hkm_whale_stats st;

	hkm_ring_get_stats(&ring, &st, NULL);
	return st.slots;
}

/* Only a miss can be a miss because nobody set the ring up. */
void *hkm_whale_get(size_t size)
{
	void *ptr = hkm_ring_get(&ring, size);

	if (likely(ptr) || is_set_up() || set_up_with_defaults())
		return ptr;
	return hkm_ring_get(&ring, size);
}

int hkm_whale_put(void *ptr, size_t size)
{
	int err = hkm_ring_put(&ring, ptr, size);

	if (likely(err != -ENOENT))
		return err;
	err = set_up_with_defaults();
	return err ? err : hkm_ring_put(&ring, ptr, size);
}

void hkm_whale_get_stats(struct hkm_whale_stats *st)
{
	hkm_ring_get_stats(&ring, st, NULL);
}

void hkm_whale_dump_stats(FILE *out)
{
	struct hkm_whale_stats st;
	uint64_t gets;

	hkm_whale_get_stats(&st);
	gets = st.hits + st.misses;
	fprintf(out ? out : stderr,
		"libhakmem whale ring\n"
		"hits       %12llu\n"
		"misses     %12llu\n"
		"puts       %12llu\n"
		"evictions  %12llu\n"
		"hit rate   %11.1f%%\n"
		"cached     %12zu of %zu slots\n",
		(unsigned long long)st.hits, (unsigned long long)st.misses,
		(unsigned long long)st.puts, (unsigned long long)st.evictions,
		gets ? 100.0 * (double)st.hits / (double)gets : 0.0,
		st.cached, st.slots);
}

void hkm_whale_shutdown(void)
{
	hkm_ring_drain(&ring);
}
