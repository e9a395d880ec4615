// SPDX-License-Identifier: GPL-2.0
/*
 * hammer_reclaim [ATTEMPTS [SECONDS]]: owners who free and take again while the
 * kernel takes, with contents checked.
 *
 * One thread fires the shrinker's trigger all the time. In each of two processes
 *
 *   - workers free slots and take them again by compare-and-swap: a few slots of
 *     their own at once, so that the kernel is met in the middle of it; and slots
 *     that lie idle for all of them to find, where a thread may swap a word that
 *     it read long ago. What they got again must be as it was, what the kernel
 *     took must come back zeroed, and under the word that was seen it must still
 *     be the memory that was handed out under it. In between they recycle, trim,
 *     and hold pages of what they free in a pipe;
 *   - a toucher drops translations and faults them in again, and reads the other
 *     process's slots by process_vm_readv();
 *   - one does direct I/O by io_uring, and frees, drops or refreshes the slot
 *     while the disk is at work on it.
 *
 * Every mark in a slot says whose it is, so that memory which went from one
 * process to the other unzeroed is seen by whoever looks. The arenas of one
 * process decay at every tick, those of the other only by the trigger.
 *
 * An attempt counts when the trigger was at work during it. Runs until there are
 * ATTEMPTS of them, and fails if SECONDS do not suffice.
 */
#include "marks.h"
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <sys/uio.h>
#include <time.h>

#define TRIGGER		"/sys/kernel/debug/hakmem_region/shrink"
#define DISK		"/dev/vda"

#define BURST		1024	/* attempts on one slot in a row */
#define TAKEN_MIN	200	/* of each kind that must have happened */
#define MET_MIN		20	/* the rarest: the kernel between free and swap */
#define DISK_MARK	0xd15cd15cULL	/* no worker gets that far */

static void expect_call(struct thread *t, const char *what, uint64_t idx,
			long ret)
{
	if (ret)
		complain(t, FAILED, what, idx, -ret, 0);
}

/*
 * Ours by HANDOUT. False: another thread's by now, or the kernel could not take
 * it after all.
 */
static bool get_new(struct thread *t, uint64_t idx)
{
	struct hkr_handout_req req = {
		.nr_slots = 1, .node = HKR_NODE_ANY, .first = idx,
		.flags = AT | COMMIT,
	};
	long ret;

	if (one_in(t, 4))
		req.flags = AT;
	else if (one_in(t, 8))
		req.flags |= FROM_IDLE;
	ret = hkr_request(&arena, &req);
	if (ret == -EEXIST || ret == -EBUSY)
		return false;
	/* nobody compacts for us; the end says if that never changed */
	if (ret == -ENOMEM) {
		sched_yield();
		return false;
	}
	if (ret) {
		expect_call(t, "HANDOUT", idx, ret);
		return false;
	}
	t->count[TAKEN]++;
	expect_new(t, idx, req.nr_zeroed == 1);
	store(&born[idx], __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
	new_contents(idx);
	return true;
}

/* some time may pass between a look at a word and the swap */
static void dawdle(struct thread *t, bool slow)
{
	unsigned int i;

	if (one_in(t, 16))
		for (i = roll(t) % 4096; i; i--)
			__asm__ volatile("" ::: "memory");
	if (!slow)
		return;
	if (one_in(t, 256))
		usleep(roll(t) % 4096);
	else if (one_in(t, 64))
		sched_yield();
}

/*
 * IDLE -> BUSY. No generation is used twice, so if the swap succeeds, nobody can
 * have handed the slot out since its word was seen.
 */
static bool get_again(struct thread *t, uint64_t idx, uint64_t word, bool slow)
{
	uint64_t seen = load(&born[idx]);
	bool raced, same;

	/* else what was seen need not belong to the word */
	same = word_of(&arena, idx) == word;
	dawdle(t, slow);
	raced = load(&shared->at_work);
	t->count[ATTEMPTS] += raced;
	if (!take_again(&arena, idx, word)) {
		/* or another thread was first */
		t->count[MET] += word_state(&arena, idx) % 3 == 0;
		return false;
	}
	if (same && born[idx] != seen)
		complain(t, LOST, "handed out anew under the same word", idx,
			 born[idx], seen);
	else if (as_it_was(t, idx))
		t->count[KEPT] += raced;
	return true;
}

/* one look at a slot; true: it is ours and BUSY */
static bool get(struct thread *t, uint64_t idx, bool slow)
{
	uint64_t word = word_of(&arena, idx);

	switch (HKR_WORD_STATE(word)) {
	case HKR_WORD_BUSY:
		return false;
	case HKR_WORD_IDLE:
		return get_again(t, idx, word, slow);
	default:
		return get_new(t, idx);
	}
}

/* now and then as the oldest there is, which goes first */
static uint64_t put(struct thread *t, uint64_t idx)
{
	uint64_t epoch = load(&arena.header->epoch);
	uint64_t gen = word_gen(&arena, idx);
	uint64_t word;

	if (one_in(t, 16))
		epoch -= 1000;
	word = HKR_WORD_MAKE(HKR_WORD_IDLE, epoch, gen);
	store(&arena.words[idx], word);
	return word;
}

/* what is in a pipe stays what it was, whatever becomes of the slot */
static void put_pinned(struct thread *t, uint64_t idx)
{
	struct iovec iov = { slot_of(&arena, idx), PAGE };
	uint64_t page[PAGE / 8], wanted = contents[idx];

	if (vmsplice(t->pipe[1], &iov, 1, 0) != PAGE)
		return expect_call(t, "vmsplice", idx, -errno);
	if (one_in(t, 2))
		put(t, idx);
	else
		expect_call(t, "DROP", idx, recycle(&arena, DROP, idx, 1));
	t->count[PINS]++;
	dawdle(t, true);
	if (read(t->pipe[0], page, PAGE) != PAGE)
		expect_call(t, "read", idx, -EIO);
	else if (page[0] != wanted)
		complain(t, CORRUPTED, "pinned", idx, page[0], wanted);
}

/* the ways in which a slot that is ours ceases to be */
static void part(struct thread *t, uint64_t idx)
{
	uint32_t way = roll(t) % 64;

	if (way > 6) {
		put(t, idx);
		return;
	}
	t->count[CALLS]++;
	if (way < 2) {
		expect_call(t, "FRESH", idx, recycle(&arena, FRESH, idx, 1));
		expect_new(t, idx, true);
		new_contents(idx);
		put(t, idx);
	} else if (way < 3) {
		expect_call(t, "DROP", idx, recycle(&arena, DROP, idx, 1));
	} else if (way < 5) {
		expect_call(t, "IDLE", idx, recycle(&arena, IDLE, idx, 1));
	} else {
		put_pinned(t, idx);
	}
}

/* free and take again at once, while the kernel looks for what is idle */
static void toggle(struct thread *t, uint64_t idx)
{
	int i;

	for (i = 0; i < BURST; i++)
		if (word_state(&arena, idx) == HKR_WORD_BUSY)
			get_again(t, idx, put(t, idx), false);
		else
			get(t, idx, false);
}

static void *worker(void *arg)
{
	struct thread *t = arg;
	uint64_t first = NR_SHARED + t->nr * NR_OWN, idx;

	while (!load(&shared->stop)) {
		toggle(t, first + roll(t) % NR_OWN);
		idx = roll(t) % NR_SHARED;
		if (get(t, idx, true))
			part(t, idx);
		if (one_in(t, 256) && trim(&arena, 0, 1) < 0)
			complain(t, FAILED, "TRIM", 0, 0, 0);
		tally(t);
	}
	return NULL;
}

static void peek(struct thread *t, uint64_t idx)
{
	unsigned int other = (process + 1) % NR_PROCESSES;
	char *base = load(&shared->base[other]);
	uint64_t seen = 0;
	struct iovec to = { &seen, 8 }, from = { base + idx * SLOT, 8 };

	if (!base || process_vm_readv(shared->pid[other], &to, 1, &from, 1, 0)
		     != 8)
		return;
	t->count[PEEKS]++;
	expect_tag(t, idx, seen, MARK | (uint64_t)(other + 1) << 32);
}

static void *toucher(void *arg)
{
	struct thread *t = arg;
	uint64_t idx, seen = 0;

	while (!load(&shared->stop)) {
		idx = roll(t) % NR_SLOTS;
		madvise(slot_of(&arena, idx), SLOT, MADV_DONTNEED);
		if (look(place(idx, roll(t) % 3), &seen))
			expect_tag(t, idx, seen, owner);
		t->count[TOUCHES]++;
		if (one_in(t, 4))
			peek(t, idx);
		tally(t);
	}
	return NULL;
}

/* ---- the disk at work on a slot that goes ---- */

static void submit(struct io_uring *ring, int fd, void *page, off_t at,
		   bool read)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (read)
		io_uring_prep_read(sqe, fd, page, PAGE, at);
	else
		io_uring_prep_write(sqe, fd, page, PAGE, at);
	io_uring_submit(ring);
}

static int complete(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int res;

	if (io_uring_wait_cqe(ring, &cqe))
		return -EIO;
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

/* the mark in a page of the disk */
static uint64_t on_disk(int fd, off_t at)
{
	static __thread uint64_t page[PAGE / 8]
		__attribute__((aligned(PAGE)));

	return pread(fd, page, PAGE, at) == PAGE ? page[0] : 0;
}

/*
 * The first page of the slot goes to a page of the disk, or comes from one that
 * bears our mark. Meanwhile the slot goes: its memory must stay what it is
 * until the disk is done, and nobody else's.
 */
static void dma(struct thread *t, struct io_uring *ring, int fd, off_t at)
{
	volatile uint64_t *first = place(DMA_SLOT, 0);
	uint64_t mark = contents[DMA_SLOT], disk = owner | DISK_MARK, wanted;
	bool from_disk = one_in(t, 2), dropped = false;
	int res;

	submit(ring, fd, (void *)first, from_disk ? at : at + PAGE, from_disk);
	switch (roll(t) % 4) {
	case 0:
		dropped = true;
		expect_call(t, "DROP in I/O", DMA_SLOT,
			    recycle(&arena, DROP, DMA_SLOT, 1));
		break;
	case 1:
		dropped = true;
		expect_call(t, "FRESH in I/O", DMA_SLOT,
			    recycle(&arena, FRESH, DMA_SLOT, 1));
		break;
	case 2:
		store(&contents[DMA_SLOT], from_disk ? disk : mark);
		mark_idle_at(&arena, DMA_SLOT, load(&arena.header->epoch) - 1000);
		break;
	}
	res = complete(ring);
	t->count[PINS]++;
	if (res != PAGE)
		return expect_call(t, "I/O", DMA_SLOT, res < 0 ? res : -EIO);
	wanted = from_disk ? disk : mark;
	if (!from_disk && on_disk(fd, at + PAGE) != mark)
		complain(t, CORRUPTED, "written to disk", DMA_SLOT,
			 on_disk(fd, at + PAGE), mark);
	else if (!dropped && word_state(&arena, DMA_SLOT) == HKR_WORD_BUSY &&
		 *first != wanted)
		complain(t, CORRUPTED, "read from disk", DMA_SLOT, *first,
			 wanted);
}

/* BUSY, with a mark in its first page */
static void dma_prepare(struct thread *t)
{
	uint64_t word = word_of(&arena, DMA_SLOT), seen = 0;

	if (HKR_WORD_STATE(word) == HKR_WORD_IDLE) {
		if (!take_again(&arena, DMA_SLOT, word))
			return dma_prepare(t);
		if (!look(place(DMA_SLOT, 0), &seen) ||
		    seen != contents[DMA_SLOT])
			complain(t, LOST, "after I/O", DMA_SLOT, seen,
				 contents[DMA_SLOT]);
	}
	while (word_state(&arena, DMA_SLOT) != HKR_WORD_BUSY &&
	       !load(&shared->stop))
		get_new(t, DMA_SLOT);
	new_contents(DMA_SLOT);
}

static void *dma_thread(void *arg)
{
	struct thread *t = arg;
	off_t at = (off_t)process * 1024 * 1024;
	struct io_uring ring;
	int fd;

	fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || io_uring_queue_init(4, &ring, 0)) {
		complain(t, FAILED, "no " DISK " or no io_uring", 0, errno, 0);
		tally(t);
		return NULL;
	}
	while (!get_new(t, DMA_SLOT) && !load(&shared->stop))
		;
	write_marks(DMA_SLOT, owner | DISK_MARK);
	if (pwrite(fd, slot_of(&arena, DMA_SLOT), PAGE, at) != PAGE)
		complain(t, FAILED, "write to " DISK, 0, errno, 0);
	while (!load(&shared->stop)) {
		dma_prepare(t);
		if (load(&shared->stop))
			break;
		dma(t, &ring, fd, at);
		tally(t);
	}
	tally(t);
	io_uring_queue_exit(&ring);
	close(fd);
	return NULL;
}

/* ---- processes ---- */

/* nothing is at work any more: every slot can be had, as it was or zeroed */
static void take_stock(struct thread *t)
{
	uint64_t idx;
	int i;

	for (idx = 0; idx < DMA_SLOT; idx++) {
		for (i = 0; i < 2000; i++) {
			if (word_state(&arena, idx) == HKR_WORD_BUSY ?
			    as_it_was(t, idx) : get(t, idx, false))
				break;
			usleep(10000);
		}
		if (i == 2000)
			complain(t, LOST, "cannot be had any more", idx,
				 word_of(&arena, idx), 0);
	}
	tally(t);
}

static int run_process(void)
{
	struct sigaction sa = { .sa_handler = on_bus, .sa_flags = SA_NODEFER };
	static struct thread thread[NR_WORKERS + 2];
	unsigned int i;

	owner = MARK | (uint64_t)(process + 1) << 32;
	sigaction(SIGBUS, &sa, NULL);
	if (arena_open_decay(&arena, NR_SLOTS, process % 2 ? 0 : -1))
		return 1;
	store(&shared->base[process], arena.base);
	for (i = 0; i < NR_WORKERS + 2; i++) {
		thread[i].nr = i;
		thread[i].random = 977 * i + process + 1;
		if (pipe(thread[i].pipe) ||
		    pthread_create(&thread[i].id, NULL, i < NR_WORKERS ?
				   worker : i == NR_WORKERS ? toucher :
				   dma_thread, &thread[i]))
			return 1;
	}
	for (i = 0; i < NR_WORKERS + 2; i++)
		pthread_join(thread[i].id, NULL);
	take_stock(&thread[0]);
	return 0;
}

static bool enough(long attempts)
{
	return shared->count[ATTEMPTS] >= attempts &&
	       shared->count[MET] >= MET_MIN &&
	       shared->count[TAKEN] >= TAKEN_MIN &&
	       shared->count[TOUCHES] >= TAKEN_MIN &&
	       shared->count[PEEKS] >= TAKEN_MIN &&
	       shared->count[PINS] >= TAKEN_MIN;
}

/* no longer than it takes to see that it is wrong */
static void fire(long attempts, int seconds)
{
	int fd = open(TRIGGER, O_WRONLY | O_CLOEXEC);
	struct timespec now, start;
	unsigned int n = 0;
	char want[4];

	/* always at work, whatever the others do */
	setpriority(PRIO_PROCESS, 0, -20);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		snprintf(want, sizeof(want), "%u", 1 + n++ % 4);
		store(&shared->at_work, true);
		if (fd < 0 || write(fd, want, 1) != 1)
			shared->count[FAILED]++;
		store(&shared->at_work, false);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (!shared->complaints && !load(&shared->count[FAILED]) &&
		 now.tv_sec - start.tv_sec < seconds && !enough(attempts));
	store(&shared->stop, true);
	close(fd);
}

static void verdict(int nr, bool good, const char *what)
{
	printf("%s %d %s\n", good ? "ok" : "not ok", nr, what);
}

int main(int argc, char **argv)
{
	long attempts = argc > 1 ? atol(argv[1]) : 1000000;
	int seconds = argc > 2 ? atoi(argv[2]) : 60;
	int status, bad = 0;
	unsigned int i;
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..3\n");
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < NR_PROCESSES; i++) {
		process = i;
		pid = fork();
		if (!pid)
			exit(run_process());
		store(&shared->pid[i], pid);
	}
	fire(attempts, seconds);
	for (i = 0; i < NR_PROCESSES; i++)
		if (waitpid(shared->pid[i], &status, 0) != shared->pid[i] ||
		    status)
			bad++;
	printf("#");
	for (i = 0; i < NR_COUNTS; i++)
		printf(" %ld %s%s", shared->count[i], names[i],
		       i < NR_COUNTS - 1 ? "," : "\n");

	bad += shared->count[FAILED];
	verdict(1, !bad, "processes and calls end well");
	verdict(2, !shared->complaints, "nothing is lost, mixed up or handed out unzeroed");
	/* a hammer that does not strike proves nothing */
	verdict(3, shared->complaints || enough(attempts),
		"owners and the kernel met often");
	return bad || shared->complaints || !enough(attempts);
}
