// SPDX-License-Identifier: MIT
/*
 * The front for unmodified programs: LD_PRELOAD=libhakmem_preload.so.
 *
 * It exports the malloc family and nothing else. Whales are its own; all else
 * goes to the next definition of the same function, libc's or that of another
 * preloaded object, and so does every pointer that is not in the window.
 *
 * A malloc() must work before anything else does:
 *
 *   - Before this object is relocated (an IFUNC resolver of a library that is
 *     loaded behind it allocates): no pointer in its data is right, nothing
 *     outside it can be called, there is no errno. A word that holds its own
 *     address tells. Such a block, and one that dlsym() wants while it is being
 *     asked for the next malloc(), comes from a static array, is never reused,
 *     and is known by its address.
 *   - Before this object's constructor (those of the libraries it is preloaded
 *     for run first): the next allocator gets everything.
 *   - After that whales are whales, also in other objects' exit handlers and
 *     destructors: this object has none that would end the heap.
 *
 * A program that brings a malloc() of its own (a static jemalloc, a sanitizer)
 * never calls this one, but may call what it did not define itself, as
 * reallocarray(), with blocks of its own. So where another malloc() is
 * found first, everything is passed to the functions that the program sees.
 */
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include <linux/hakmem_region.h>

#include "env.h"
#include "family.h"
#include "machine.h"
#include "source.h"
#include "thread.h"

/*
 * Zero until the next allocator is known: no block is smaller, so all go the
 * slow way. These two start as zeroes because an initial value would need the
 * relocation that may not have been done.
 */
size_t hkm_threshold;
struct hkm_next hkm_next;

/*
 * A program that has never heard of this library forks as it likes, so the
 * device is for it only if a child can read its parent's whales. And it may have
 * forbidden itself all calls but those for memory before its first whale, so the
 * window gets no name, and whether there is a device is found out at the start.
 */
const struct hkm_front hkm_front = {
	.prefix = "",
	.source = HKM_SOURCE_AUTO,
	.features = HKR_FEAT_FORK,
};

#define EXPORT __attribute__((visibility("default")))

/* ---- early blocks ----------------------------------------------------------- */

#define EARLY_SIZE ((size_t)64 << 10)
#define EARLY_HEAD ((size_t)16)

/* Each block has its size in front of it. */
char early[EARLY_SIZE] behind_all("hkm_early") __attribute__((aligned(16)));
static size_t early_used;	/* atomic */

static bool is_early(const void *ptr)
{
	return (uintptr_t)ptr - (uintptr_t)early < EARLY_SIZE;
}

static size_t early_size(const void *ptr)
{
	return *(const size_t *)((const char *)ptr - EARLY_HEAD);
}

/* Zeroed, as the array is. NULL without errno where it does not fit. */
static void *early_memalign(size_t align, size_t size)
{
	size_t at, end;

	if (align < EARLY_HEAD)
		align = EARLY_HEAD;
	if (align > EARLY_SIZE || size > EARLY_SIZE)
		return NULL;
	at = __atomic_fetch_add(&early_used,
				(size + align + 2 * EARLY_HEAD - 1) &
				~(EARLY_HEAD - 1), __ATOMIC_RELAXED);
	at += (uintptr_t)early + EARLY_HEAD;
	at = ((at + align - 1) & ~(align - 1)) - (uintptr_t)early;
	if (__builtin_add_overflow(at, size, &end) || end > EARLY_SIZE)
		return NULL;
	*(size_t *)&early[at - EARLY_HEAD] = size;
	return &early[at];
}

/* ---- the next allocator ------------------------------------------------------ */

/* Once early blocks exist, who gets a pointer of somebody asks for them first. */
static struct hkm_next real;

static void free_not_early(void *ptr)
{
	if (!is_early(ptr))
		real.free(ptr);
}

static size_t usable_size_early_too(void *ptr)
{
	return is_early(ptr) ? early_size(ptr) : real.usable_size(ptr);
}

static void *realloc_early_too(void *ptr, size_t size)
{
	size_t old;
	void *block;

	if (!is_early(ptr))
		return real.realloc(ptr, size);
	block = size ? real.malloc(size) : NULL;
	old = early_size(ptr);
	if (block)
		memcpy(block, ptr, old < size ? old : size);
	return block;
}

/* glibc before 2.33 lets free() change errno. */
static void free_keeping_errno(void *ptr)
{
	int saved = errno;

	if (!is_early(ptr))
		real.free(ptr);
	errno = saved;
}

static void find_all(void *where, struct hkm_next *n)
{
	*(void **)&n->malloc = dlsym(where, "malloc");
	*(void **)&n->free = dlsym(where, "free");
	*(void **)&n->calloc = dlsym(where, "calloc");
	*(void **)&n->realloc = dlsym(where, "realloc");
	*(void **)&n->memalign = dlsym(where, "memalign");
	*(void **)&n->usable_size = dlsym(where, "malloc_usable_size");
	*(void **)&n->trim = dlsym(where, "malloc_trim");
	*(void **)&n->info = dlsym(where, "mallinfo2");
	*(void **)&n->stats = dlsym(where, "malloc_stats");
}

static void use(const struct hkm_next *n)
{
	real = *n;
	hkm_next = *n;
	if (strverscmp(gnu_get_libc_version(), "2.33") < 0)
		hkm_next.free = free_keeping_errno;
	else if (read_once(&early_used))
		hkm_next.free = free_not_early;
	if (!read_once(&early_used))
		return;
	hkm_next.usable_size = usable_size_early_too;
	hkm_next.realloc = realloc_early_too;
}

static void *volatile self = (void *)&self;	/* true once relocated */

/*
 * Is there a next allocator? Twice at once, in two threads, finds the same. The
 * threshold is what lets others in, so it is stored last.
 */
static cold bool find_next(void)
{
	struct hkm_next n;

	if (self != (void *)&self || hkm_is_in(HKM_IN_SEARCH))
		return false;
	if (load_acquire(&hkm_threshold))
		return true;
	hkm_enter(HKM_IN_SEARCH);
	find_all(RTLD_NEXT, &n);
	hkm_exit(HKM_IN_SEARCH);
	use(&n);
	store_release(&hkm_threshold, SIZE_MAX);
	return true;
}

/* Constant once the next allocator is known. */
static inline bool is_ready(void)
{
	return likely(load_acquire(&hkm_threshold)) || find_next();
}

/* ---- start ------------------------------------------------------------------ */

/* Is @fn of another object? (Where a program takes its address, its PLT is not.) */
static bool is_elsewhere(void *fn)
{
	ElfW(Sym) *sym = NULL;
	Dl_info info, own;

	if (!fn || !dladdr((void *)early, &own) ||
	    !dladdr1(fn, &info, (void **)&sym, RTLD_DL_SYMENT))
		return false;
	return info.dli_fbase != own.dli_fbase &&
	       (!sym || sym->st_shndx != SHN_UNDEF);
}

/* Of what the program sees, all that is not this object's. */
static void use_the_programs_own(void)
{
	struct hkm_next n = real, seen;

	find_all(RTLD_DEFAULT, &seen);
#define TAKE(fn) (n.fn = is_elsewhere((void *)seen.fn) ? seen.fn : n.fn)
	TAKE(malloc);
	TAKE(free);
	TAKE(calloc);
	TAKE(realloc);
	TAKE(memalign);
	TAKE(usable_size);
	TAKE(trim);
	TAKE(info);
	TAKE(stats);
#undef TAKE
	use(&n);
}

/* HAKMEM_EXCLUDE=name,name: is this program one of them? */
static bool is_excluded(void)
{
	const char *list = secure_getenv("HAKMEM_EXCLUDE");
	size_t len = strlen(program_invocation_short_name);

	while (list && *list) {
		size_t n = strcspn(list, ",");

		if (n == len && !memcmp(list, program_invocation_short_name, n))
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

__attribute__((constructor)) static void start(void)
{
	if (!is_ready())
		return;
	if (is_elsewhere(dlsym(RTLD_DEFAULT, "malloc"))) {
		use_the_programs_own();
		if (hkm_verbose())
			hkm_message("%s has an allocator of its own: inactive",
				    program_invocation_short_name);
		return;
	}
	if (hkm_env_flag(HAKMEM_DISABLE) || is_excluded())
		return;
	hkm_threshold_read_environment();
	hkm_machine_learn();
	hkm_source_look();
}

/* ---- what is exported -------------------------------------------------------- */

static cold void *slow_malloc(size_t size, const void *caller)
{
	return is_ready() ? family_malloc(size, caller) :
			    early_memalign(EARLY_HEAD, size);
}

/*
 * What a small block passes through begins with a line of the instruction cache and
 * has room in one: where it lay across two was a part of a nanosecond of what it costs.
 */
#define LINE __attribute__((aligned(64)))

EXPORT LINE void *malloc(size_t size)
{
	if (likely(size < read_once(&hkm_threshold)))
		return hkm_next.malloc(size);
	return slow_malloc(size, CALLER);
}

static cold void slow_free(void *ptr)
{
	if (hkm_window_has(ptr))
		hkm_heap_free(ptr);
	else if (is_ready())
		read_once(&hkm_next.free)(ptr);
}

EXPORT LINE void free(void *ptr)
{
	void (*next_free)(void *ptr) = read_once(&hkm_next.free);

	if (likely(!hkm_window_has(ptr)) && likely(next_free))
		next_free(ptr);
	else
		slow_free(ptr);
}

EXPORT void free_sized(void *ptr, size_t size)
{
	(void)size;
	free(ptr);
}

EXPORT void free_aligned_sized(void *ptr, size_t align, size_t size)
{
	(void)align;
	(void)size;
	free(ptr);
}

EXPORT void *calloc(size_t nr, size_t size)
{
	if (likely(is_ready()))
		return family_calloc(nr, size, CALLER);
	return __builtin_mul_overflow(nr, size, &size) ?
	       NULL : early_memalign(EARLY_HEAD, size);
}

/* Before it is known who has it, a block cannot be one of somebody else. */
static cold void *early_realloc(void *ptr, size_t size)
{
	char *block = early_memalign(EARLY_HEAD, size);
	size_t old = ptr ? early_size(ptr) : 0;

	/* volatile: a loop that stays one, memcpy() may be out of reach */
	for (size_t i = 0; block && i < old && i < size; i++)
		((volatile char *)block)[i] = ((const char *)ptr)[i];
	return block;
}

EXPORT void *realloc(void *ptr, size_t size)
{
	if (likely(is_ready()))
		return family_realloc(ptr, size, CALLER);
	return early_realloc(ptr, size);
}

EXPORT void *reallocarray(void *ptr, size_t nr, size_t size)
{
	if (likely(is_ready()))
		return family_reallocarray(ptr, nr, size, CALLER);
	return __builtin_mul_overflow(nr, size, &size) ?
	       NULL : early_realloc(ptr, size);
}

EXPORT void *memalign(size_t align, size_t size)
{
	return likely(is_ready()) ? family_memalign(align, size, CALLER) :
				    early_memalign(align, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	if (likely(is_ready()))
		return family_aligned_alloc(align, size, CALLER);
	return is_power_of_two(align) ? early_memalign(align, size) : NULL;
}

EXPORT int posix_memalign(void **ptr, size_t align, size_t size)
{
	if (likely(is_ready()))
		return family_posix_memalign(ptr, align, size, CALLER);
	*ptr = early_memalign(align, size);
	return *ptr ? 0 : ENOMEM;
}

EXPORT void *valloc(size_t size)
{
	return is_ready() ? family_valloc(size, CALLER) : NULL;
}

EXPORT void *pvalloc(size_t size)
{
	return is_ready() ? family_pvalloc(size, CALLER) : NULL;
}

EXPORT size_t malloc_usable_size(void *ptr)
{
	if (likely(is_ready()))
		return family_usable_size(ptr);
	return ptr ? early_size(ptr) : 0;
}

EXPORT int malloc_trim(size_t pad)
{
	return is_ready() && family_trim(pad);
}

EXPORT struct mallinfo2 mallinfo2(void)
{
	if (is_ready())
		return hkm_heap_info();
	return (struct mallinfo2){ 0 };
}

EXPORT void malloc_stats(void)
{
	if (is_ready())
		hkm_heap_print_stats();
}
