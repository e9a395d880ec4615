/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_MEMCG_H
#define HKR_MEMCG_H

#include <linux/types.h>

struct folio;
struct hkr_take;
struct hkr_view;

/* memcg.c: arenas whose memory is charged to their owner's memory cgroup */
int hkr_memcg_init(const char *mode);
void hkr_memcg_exit(void);
bool hkr_memcg_possible(void);
int hkr_memcg_join(struct hkr_view *view);
int hkr_memcg_inherit(struct hkr_view *view, struct hkr_view *parent);
void hkr_memcg_leave(struct hkr_view *view);
struct folio *hkr_memcg_folio(struct hkr_view *view, int nid);
unsigned long hkr_memcg_take_any(int nid, struct hkr_take *take);

#endif /* HKR_MEMCG_H */
