/* SPDX-License-Identifier: MIT */
#ifndef HKM_ELO_H
#define HKM_ELO_H

/*
 * Which of a few candidates costs least, found out by games of two. Arithmetic
 * alone: no clock, no system call, no lock, and the same costs end the same way.
 */

#include <stdbool.h>
#include <stdint.h>

#define HKM_ELO_NR	  7	/* candidates, in an order in which neighbours are alike */
#define HKM_ELO_PRIOR	  2	/* the one that is best as long as nothing says otherwise */
#define HKM_ELO_GAMES	  48	/* each of two costs; then it is settled */
#define HKM_ELO_COSTS	  (2 * HKM_ELO_GAMES)

/* Ratings are in thousandths of a point. */
#define HKM_ELO_POINT	  1000
#define HKM_ELO_START	  (1500 * HKM_ELO_POINT)
#define HKM_ELO_BONUS	  (100 * HKM_ELO_POINT)	/* the prior's, at the start */
#define HKM_ELO_MARGIN	  (175 * HKM_ELO_POINT)	/* over the prior, at the end */
#define HKM_ELO_ALIKE	  (24 * HKM_ELO_POINT)	/* who is so close to the best is as good */

/* Two costs of which the lower is more than this of the higher are a draw. */
#define HKM_ELO_DRAW_PERCENT 90

/**
 * struct hkm_elo - the ratings, and whose turn it is
 * @rating: of each candidate
 * @games: that have been played
 * @player: of the game that is being played, in the order of their turns
 * @cost: of the first of them, once it had its turn
 * @second: the second has its turn
 * @settled: no more games; @winner is the best
 */
struct hkm_elo {
	int32_t rating[HKM_ELO_NR];
	unsigned int games;
	unsigned int player[2];
	uint64_t cost;
	bool second;
	bool settled;
	unsigned int winner;
};

void hkm_elo_begin(struct hkm_elo *elo);

/* hkm_elo_turn - the candidate that is to be tried next; the winner, once there is one */
unsigned int hkm_elo_turn(const struct hkm_elo *elo);

/*
 * hkm_elo_cost - what the candidate whose turn it was has cost. Two costs that
 * differ by @least or less are a draw. Ignored once it is settled.
 */
void hkm_elo_cost(struct hkm_elo *elo, uint64_t cost, uint64_t least);

/* hkm_elo_expected - in thousandths, the score of who is @ahead points ahead */
int32_t hkm_elo_expected(int32_t ahead);

#endif /* HKM_ELO_H */
