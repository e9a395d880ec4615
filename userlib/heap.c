// SPDX-License-Identifier: MIT
/*
 * hkm_malloc and hkm_free: whales go to whale.c, everything smaller to libc.
 *
 * The heap is set up by the first whale, never at load: a program that links
 * the library and needs no whale pays nothing. Where a whale cannot be had
 * (address space limited below the window, say) libc is asked for aligned
 * memory instead; a free tells the two apart by address.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "env.h"
#include "lock.h"
#include "sys.h"
#include "whale.h"

static const char *const source_words[] = { "auto", "anon", "region", NULL };
static const char *const policy_words[] = { "keep", "dontneed", "free", NULL };
static const char *const order_words[] = { "hot", "fifo", NULL };

static void read_environment(struct hkm_config *cfg)
{
	cfg->source = (enum hkm_source)hkm_env_choice("HAKMEM_SOURCE",
						      source_words, 0);
	cfg->policy = (enum hkm_policy)hkm_env_choice("HAKMEM_POLICY",
						      policy_words, 0);
	cfg->order = (enum hkm_order)hkm_env_choice("HAKMEM_WHALE_ORDER",
						    order_words, 0);
	hkm_env_slots(&cfg->slots);
}

static int open_heap(const struct hkm_config *cfg)
{
	int err;

	hkm_lock(&hkm_setup_lock);
	err = hkm_whale_open(cfg);
	hkm_unlock(&hkm_setup_lock);
	return err;
}

static bool is_valid(const struct hkm_config *cfg)
{
	return (unsigned int)cfg->source <= HKM_SOURCE_REGION &&
	       (unsigned int)cfg->policy <= HKM_POLICY_FREE &&
	       (unsigned int)cfg->order <= HKM_FIFO &&
	       cfg->slots <= HKM_SLOTS_MAX;
}

int hkm_init(const struct hkm_config *cfg)
{
	struct hkm_config full;

	if (!cfg) {
		read_environment(&full);
		return open_heap(&full);
	}
	if (!is_valid(cfg))
		return -EINVAL;
	full = *cfg;
	if (!full.slots)
		hkm_env_slots(&full.slots);
	return open_heap(&full);
}

/* Nobody is there to hear of an error: say it, and do what works. */
static cold void open_unasked(void)
{
	struct hkm_config cfg;
	int err;

	read_environment(&cfg);
	err = open_heap(&cfg);
	if (!err || err == -EALREADY || cfg.source != HKM_SOURCE_REGION)
		return;
	hkm_message("HAKMEM_SOURCE=region: " HKM_DEVICE " cannot be used (%s); using anon",
		    strerrordesc_np(-err));
	cfg.source = HKM_SOURCE_ANON;
	open_heap(&cfg);
}

void hkm_shutdown(void)
{
	hkm_lock(&hkm_setup_lock);
	hkm_whale_close();
	hkm_unlock(&hkm_setup_lock);
}

static cold void *alloc_elsewhere(size_t size)
{
	void *ptr;

	if (!posix_memalign(&ptr, HKM_SLOT_SIZE, size))
		return ptr;
	errno = ENOMEM;
	return NULL;
}

void *hkm_malloc(size_t size)
{
	void *ptr;

	if (size < HKM_WHALE_MIN)
		return malloc(size);
	if (unlikely(size > PTRDIFF_MAX)) {
		errno = ENOMEM;
		return NULL;
	}
	if (unlikely(!hkm_whale_is_open()))
		open_unasked();
	ptr = hkm_whale_alloc(size);
	return likely(ptr) ? ptr : alloc_elsewhere(size);
}

void hkm_free(void *ptr)
{
	int saved;

	if (hkm_whale_free(ptr))
		return;
	saved = errno;	/* libc before 2.33 changes it */
	free(ptr);
	errno = saved;
}

void hkm_get_heap_stats(struct hkm_heap_stats *st)
{
	hkm_whale_heap_stats(st);
}
