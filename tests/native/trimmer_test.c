// SPDX-License-Identifier: GPL-2.0
/*
 * The thread that gives idle memory back, if asked for: that it does, without a
 * call of the program, and that it is there only while it has something to do.
 */
#include <dirent.h>
#include <pthread.h>
#include <time.h>

#include "heap_test.h"

/* Wait for what another thread does; the bound is for a test that fails. */
#define eventually(cond) do {						\
	for (int i_ = 0; i_ < 4000 && !(cond); i_++)			\
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL); \
	check(cond);							\
} while (0)

/* a thread of this process that is not this one, or 0 */
static __attribute__((unused)) int other_thread(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *d;
	int tid = 0;

	while ((d = readdir(dir)))
		if (atoi(d->d_name) && atoi(d->d_name) != getpid())
			tid = atoi(d->d_name);
	closedir(dir);
	return tid;
}

#ifdef __SANITIZE_THREAD__	/* which has a thread of its own */
#define check_alone() ((void)0)
#define check_ends() ((void)0)
#else
#define check_alone() check(!other_thread())
#define check_ends() eventually(!other_thread())
#endif

/*
 * Neither checker lets a child start a thread for sure when the parent had one:
 * the child has their locks as they were at the fork.
 */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define CAN_FORK_THREADS
#endif

static void set_up(const char *how, const char *decay)
{
	setenv("HAKMEM_DECAY_MS", decay, 1);
	setenv("HAKMEM_TRIM", how, 1);
	no_device();
}

static char *make_idle(size_t nr)
{
	char *p = hkm_malloc(nr * SLOT);

	memset(p, 1, nr * SLOT);
	hkm_free(p);
	return p;
}

static void idle_memory_goes_without_a_call(void)
{
	char *p;

	set_up("thread", "50");
	hkm_free(hkm_malloc(SLOT));
	p = make_idle(4);
	eventually(!resident_pages(p, 4 * SLOT));
	eventually(!stats().idle_bytes);
}

static void the_thread_ends_and_begins(void)
{
	char *p;

	set_up("thread", "20");
	p = hkm_malloc(SLOT);
	check_alone();
	for (int i = 0; i < 3; i++) {
		memset(p, 1, SLOT);
		hkm_free(p);
		eventually(!resident_pages(p, SLOT));
		check_ends();
		p = hkm_malloc(SLOT);
	}
}

static void there_is_no_thread_unless_asked_for(void)
{
	char *p;

	no_device();
	p = make_idle(2);
	check_alone();
	check_int(hkm_set_trim((enum hkm_trim)3), -EINVAL);
	/* nothing decays */
	hkm_shutdown();
	setenv("HAKMEM_POLICY", "keep", 1);
	setenv("HAKMEM_TRIM", "thread", 1);
	p = make_idle(2);
	check_alone();
	check_int(resident_pages(p, 2 * SLOT), 2 * SLOT / 4096);
	/* nothing may go */
	hkm_shutdown();
	setenv("HAKMEM_POLICY", "decay", 1);
	p = hkm_malloc(2 * SLOT);
	hkm_pin(p, 1);
	hkm_free(p);
	check_alone();
}

#ifndef __SANITIZE_THREAD__
static void no_signal_reaches_the_thread(void)
{
	unsigned long blocked = 0;
	char path[64], line[256];
	sigset_t mine;
	FILE *f;

	set_up("thread", "3600000");
	make_idle(1);
	eventually(other_thread());
	snprintf(path, sizeof(path), "/proc/self/task/%d/status",
		 other_thread());
	f = fopen(path, "r");
	while (fgets(line, sizeof(line), f))
		sscanf(line, "SigBlk: %lx", &blocked);
	fclose(f);
	for (int sig = 1; sig < SIGRTMAX; sig++)
		if (sig != SIGKILL && sig != SIGSTOP &&
		    (sig < 32 || sig >= SIGRTMIN))
			check(blocked >> (sig - 1) & 1);
	/* and this one has those that it had */
	check_int(sigprocmask(SIG_BLOCK, NULL, &mine), 0);
	check(!sigismember(&mine, SIGTERM));
}
#endif

static void off_and_on_by_call(void)
{
	char *p;

	set_up("off", "3600000");
	p = make_idle(1);
	check_alone();
	check_int(hkm_set_trim(HKM_TRIM_THREAD), 0);
#ifndef __SANITIZE_THREAD__
	check(other_thread());
#endif
	check_int(hkm_set_trim(HKM_TRIM_OFF), 0);
	check_ends();
	check_int(resident_pages(p, SLOT), SLOT / 4096);
}

/* whatever the environment says, before the first set-up and at later ones */
static void a_call_outlives_set_ups(void)
{
	char *p;

	set_up("psi", "3600000");
	check_int(hkm_set_trim(HKM_TRIM_OFF), 0);
	for (int i = 0; i < 3; i++) {
		make_idle(1);
		check_alone();
		hkm_shutdown();
		if (i)
			check_int(hkm_init(NULL), 0);
	}
	hkm_shutdown();
	set_up("off", "20");
	check_int(hkm_set_trim(HKM_TRIM_THREAD), 0);
	for (int i = 0; i < 2; i++) {
		p = make_idle(2);
		eventually(!resident_pages(p, 2 * SLOT));
		hkm_shutdown();
	}
	/* what it did not take is not said */
	check_int(hkm_set_trim((enum hkm_trim)-1), -EINVAL);
	p = make_idle(2);
	eventually(!resident_pages(p, 2 * SLOT));
	check_int(__atomic_load_n(&fake.triggers, __ATOMIC_RELAXED), 0);
}

/* nobody has said anything: the environment is looked at again */
static void without_a_call_the_environment_says(void)
{
	char *p;

	set_up("thread", "20");
	p = make_idle(2);
	eventually(!resident_pages(p, 2 * SLOT));
	hkm_shutdown();
	check_ends();
	unsetenv("HAKMEM_TRIM");
	make_idle(2);
	check_alone();
}

#ifdef CAN_FORK_THREADS
static void a_child_has_a_thread_of_its_own(void)
{
	char *p;
	int status;
	pid_t pid;

	set_up("thread", "3600000");
	make_idle(1);
	pid = fork();
	if (!pid) {
		check_alone();
		hkm_shutdown();
		setenv("HAKMEM_DECAY_MS", "20", 1);
		p = make_idle(3);
		eventually(!resident_pages(p, 3 * SLOT));
		_exit(0);
	}
	check_int(waitpid(pid, &status, 0), pid);
	check(exited_well(status));
}

#endif

/* ---- pressure ----------------------------------------------------------------- */

#define happened(what) __atomic_load_n(&fake.what, __ATOMIC_RELAXED)

static void pressure_takes_all_that_is_idle(void)
{
	char *p, *q;

	set_up("psi", "3600000");
	setenv("HAKMEM_POLICY", "keep", 1);
	p = make_idle(4);
	q = hkm_malloc(SLOT);
	memset(q, 2, SLOT);
	eventually(happened(waits) >= 3);
	check_int(resident_pages(p + SLOT, 3 * SLOT), 3 * SLOT / 4096);
	check_int(happened(triggers), 1);
	__atomic_store_n(&fake.pressure, true, __ATOMIC_RELEASE);
	eventually(!resident_pages(p + SLOT, 3 * SLOT));
	check(all_bytes(q, SLOT, 2));
	check_ends();
}

static void without_privilege_the_window_is_longer(void)
{
	char *p;

	fake.root_trigger_error = -EPERM;
	set_up("psi", "3600000");
	p = make_idle(1);
	eventually(happened(waits));
	check_int(happened(triggers), 2);
	__atomic_store_n(&fake.pressure, true, __ATOMIC_RELEASE);
	eventually(!resident_pages(p, SLOT));
}

static void use_psi_without_psi(void)
{
	char *p;

	set_up("psi", "30");
	setenv("HAKMEM_VERBOSE", "1", 1);
	setenv("HAKMEM_SOURCE", "anon", 1);
	for (int i = 0; i < 2; i++) {
		p = make_idle(1);
		eventually(!resident_pages(p, SLOT));
	}
	_exit(0);
}

static void without_pressure_to_wait_for_it_is_the_thread(void)
{
	char text[1024];

	fake.root_trigger_error = -ENOENT;
	check(exited_well(run_child(use_psi_without_psi, text, sizeof(text))));
	check(!strcmp(text, "libhakmem: HAKMEM_TRIM=psi: /proc/pressure/memory: No such file or directory; using thread\n"));
	fake.root_trigger_error = fake.any_trigger_error = -EPERM;
	check(exited_well(run_child(use_psi_without_psi, text, sizeof(text))));
	check(strstr(text, "not permitted; using thread\n"));
	/* closefrom(3), say */
	fake.root_trigger_error = 0;
	fake.trigger_lost = true;
	check(exited_well(run_child(use_psi_without_psi, text, sizeof(text))));
	check(strstr(text, "Bad file descriptor; using thread\n"));
}

static int taken = -1;	/* atomic: the number that the program has now */

/* closefrom(3), and a file of the program's gets the number */
static void take_number(int fd)
{
	int own = open("/dev/null", O_RDONLY);

	check_int(dup2(own, fd), fd);
	close(own);
	__atomic_store_n(&taken, fd, __ATOMIC_RELEASE);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void use_psi_and_its_number(void)
{
	char *p;

	set_up("psi", "30");
	setenv("HAKMEM_VERBOSE", "1", 1);
	setenv("HAKMEM_SOURCE", "anon", 1);
	fake.in_wait = take_number;
	p = make_idle(1);
	eventually(!resident_pages(p, SLOT));
	check_ends();
	check_int(happened(waits), 1);
	check(is_open(__atomic_load_n(&taken, __ATOMIC_ACQUIRE)));
	_exit(0);
}

static void a_file_of_the_program_is_not_waited_for(void)
{
	char text[1024];

	check(exited_well(run_child(use_psi_and_its_number, text, sizeof(text))));
	check(strstr(text, "Bad file descriptor; using thread\n"));
}

static void take_number_and_what_is_idle(int fd)
{
	take_number(fd);
	hkm_release_all();
}

static void a_file_of_the_program_is_not_closed(void)
{
	set_up("psi", "3600000");
	fake.in_wait = take_number_and_what_is_idle;
	make_idle(1);
	eventually(!stats().idle_bytes);
	check_ends();
	check(is_open(__atomic_load_n(&taken, __ATOMIC_ACQUIRE)));
}

/* one's own is: the thread has none left when it has ended */
static void note_number(int fd)
{
	__atomic_store_n(&taken, fd, __ATOMIC_RELEASE);
	hkm_release_all();
}

static void the_trigger_is_closed(void)
{
	set_up("psi", "3600000");
	fake.in_wait = note_number;
	make_idle(1);
	eventually(__atomic_load_n(&taken, __ATOMIC_ACQUIRE) >= 0);
	eventually(!is_open(__atomic_load_n(&taken, __ATOMIC_ACQUIRE)));
}

static void two_files_are_told_apart(void)
{
	struct hkm_sys_file a, b, again;
	int null = open("/dev/null", O_RDONLY), zero = open("/dev/zero", O_RDONLY);

	check_int(hkm_sys_which_file(null, &a), 0);
	check_int(hkm_sys_which_file(zero, &b), 0);
	check(a.dev == b.dev && a.ino != b.ino);
	check_int(dup2(null, zero), zero);
	check_int(hkm_sys_which_file(zero, &again), 0);
	check(again.dev == a.dev && again.ino == a.ino);
	close(null);
	check_int(hkm_sys_which_file(null, &a), -EBADF);
}

static void the_real_trigger_or_its_absence(void)
{
	int fd = hkm_sys_open_trigger("some 20000 2000000");

	check(fd >= 0 || fd == -ENOENT || fd == -EACCES || fd == -EPERM ||
	      fd == -EINVAL || fd == -EOPNOTSUPP);
	if (fd < 0)
		return;
	check(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	check(hkm_sys_wait_trigger(fd, 1) >= 0);
	hkm_sys_close(fd);
	check_int(hkm_sys_wait_trigger(fd, 1000), -EBADF);
}

/* ---- all at once ----------------------------------------------------------------- */

static void *churn(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	char *p[4] = { NULL };
	size_t nr[4];

	for (int i = 0; i < 1500; i++) {
		int k = next_random(&seed) % 4;

		if (p[k]) {
			check(p[k][0] == k + 1);
			check(p[k][nr[k] * SLOT - 1] == k + 1);
			hkm_free(p[k]);
		}
		nr[k] = 1 + next_random(&seed) % 5;
		p[k] = hkm_malloc(nr[k] * SLOT);
		p[k][0] = p[k][nr[k] * SLOT - 1] = (char)(k + 1);
	}
	for (int k = 0; k < 4; k++)
		hkm_free(p[k]);
	return NULL;
}

static void threads_and_the_thread(void)
{
	pthread_t t[4];

	set_up("thread", "1");
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, churn, (void *)(i + 1));
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	eventually(!stats().idle_bytes);
	check_int(stats().live_bytes, 0);
}

static const struct tap_case cases[] = {
	CASE(idle_memory_goes_without_a_call),
	CASE(the_thread_ends_and_begins),
	CASE(there_is_no_thread_unless_asked_for),
#ifndef __SANITIZE_THREAD__
	CASE(no_signal_reaches_the_thread),
#endif
#ifdef CAN_FORK_THREADS
	CASE(a_child_has_a_thread_of_its_own),
#endif
	CASE(off_and_on_by_call),
	CASE(a_call_outlives_set_ups),
	CASE(without_a_call_the_environment_says),
	CASE(pressure_takes_all_that_is_idle),
	CASE(without_privilege_the_window_is_longer),
	CASE(without_pressure_to_wait_for_it_is_the_thread),
	CASE(a_file_of_the_program_is_not_waited_for),
	CASE(a_file_of_the_program_is_not_closed),
	CASE(the_trigger_is_closed),
	CASE(two_files_are_told_apart),
	CASE(the_real_trigger_or_its_absence),
	CASE(threads_and_the_thread),
};

TAP_MAIN(cases)
