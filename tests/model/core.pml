/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel's memory management does with our folios: translations, their
 * flush, references, GUP, the end of a fault. Included by slot.pml; the essay is
 * there.
 *
 * Folios are numbered from 1; 0 is none. A view has one slot, so an array by view
 * is one by slot. TLB entries are by thread: the first two and the fourth thread
 * run in view 0, the third in view 1.
 */

byte ref[NR_FOLIOS + 1];	/* folio_ref_count(); ours is one */
byte flock[NR_FOLIOS + 1];	/* folio_lock(): who */
byte data[NR_FOLIOS + 1];	/* what a read sees */

byte pmd[NR_VIEWS];		/* page table of the view's owner: a folio */
byte tlb[NR_THREADS];		/* what the CPU still believes */

byte gathers[NR_VIEWS];	/* mm->tlb_flush_pending */
byte mm_readers[NR_VIEWS];	/* mmap_lock */
byte mm_writer[NR_VIEWS];
bool mm_unmapped[NR_VIEWS];	/* no VMA any more */

/* Ghosts: kept for the assertions, and nothing else reads them */
byte owner[NR_FOLIOS + 1];	/* the view plus 1; 0 with the pool */

#define ME		(_pid + 1)
#define LOCKED_BY_ME(l)	((l) == ME)

/* One step each: who holds a lock blocks the others. */
inline lock(l)
{
	atomic { !l -> l = ME }
}

inline unlock(l)
{
	atomic { assert(LOCKED_BY_ME(l)); l = 0 }
}

/* Reads and writes need it; munmap() needs it alone. Only where CLOSE asks. */
inline mmap_read_lock(v)
{
#if CLOSE
	atomic { !mm_writer[v] -> mm_readers[v]++ }
#else
	skip
#endif
}

inline mmap_read_unlock(v)
{
#if CLOSE
	mm_readers[v]--
#else
	skip
#endif
}

inline flush_tlb(v)
{
	if
	:: v == 0 -> tlb[0] = 0; tlb[1] = 0; tlb[3] = 0
	:: else -> tlb[2] = 0
	fi
}

/*
 * An mmu_gather around zap_huge_pmd(), for unmap_mapping_range() of our hkr_zap()
 * as well as for madvise(MADV_DONTNEED) and munmap() by the owner: the entry is
 * cleared under the page table lock, then TLBs are flushed, then the mapping's
 * reference goes. Who finds no entry flushes only if another gather is under way
 * in this mm (mm_tlb_flush_nested()). Else nothing but the reference says that a
 * CPU may still get through.
 *
 * Flush and put are one step: whoever looks at the reference in between sees what
 * was there before.
 */
inline zap(v)
{
	atomic { gathers[v]++; z = pmd[v]; pmd[v] = 0 };
	d_step {
		if
#ifdef NO_NESTED_FLUSH
		:: z -> flush_tlb(v)
#else
		:: z || gathers[v] > 1 -> flush_tlb(v)
#endif
		:: else
		fi;
		if
		:: z -> ref[z]--; z = 0
		:: else
		fi;
		gathers[v]--
	}
}

/*
 * finish_fault() and do_set_pmd() after VM_FAULT_LOCKED: with the folio locked
 * and our reference on it, under the page table lock, set the entry if there is
 * none. The reference is then the mapping's, else it is dropped.
 */
inline finish_fault(v, f)
{
	atomic {
		if
		:: !pmd[v] -> pmd[v] = f
		:: else -> ref[f]--
		fi
	};
	unlock(flock[f])
}

/* handle_mm_fault(): mmap_lock around the driver's .fault and what follows it */
inline handle_fault(v)
{
	mmap_read_lock(v);
	if
	:: mm_unmapped[v] -> ok = false
	:: else ->
		hkr_arena_fault(v);
		if
		:: ok -> finish_fault(v, f)
		:: else
		fi
	fi;
	mmap_read_unlock(v);
	f = 0
}

/*
 * A load or store of a user thread. It goes through the TLB entry if there is
 * one, however stale; a walk of the page table leaves an entry. Here property (b)
 * is checked: whatever it meets is of this view.
 */
#define LOOK_AT		0	/* whatever is there */
#define EXPECT		1	/* this, and nothing else */
#define STORE		2
#define LOAD		3	/* into early */

inline touch(v, me, how, value)
{
	do
	:: atomic {
		tlb[me] || pmd[v] ->
		if
		:: tlb[me]
		:: else -> tlb[me] = pmd[v]
		fi;
		f = tlb[me];
		assert(owner[f] == v + 1);
		if
		:: how == EXPECT -> assert(data[f] == value)
		:: how == STORE -> data[f] = value
#ifdef NO_ACQUIRE
		:: how == LOAD -> early = data[f]
#endif
		:: else
		fi;
		f = 0;
		ok = true;
		break
	   }
	:: else ->
		handle_fault(v);
		if
		:: !ok -> break		/* SIGBUS */
		:: else
		fi
	od
}

/*
 * GUP-fast: no lock at all. Read the entry, take a reference, and keep it only if
 * the entry is still the same. GUP under the page table lock does the three at
 * once, which is one way this may go.
 */
inline gup_fast(v)
{
	f = pmd[v];
	if
	:: f ->
		ref[f]++;
		atomic {
			if
			:: pmd[v] == f -> pin = f
			:: else -> ref[f]--
			fi
		};
		f = 0
	:: else
	fi
}

/* the device reads or writes, and lets go: any time later */
inline dma_and_unpin(v)
{
	atomic {
		assert(owner[pin] == v + 1);
		ref[pin]--;
		pin = 0
	}
}
