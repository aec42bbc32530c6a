/* What the writer of one bit rate needs, laid out for vectors. Built once by st_tq_plans_fill(). */
#ifndef STRETCH_TQ_PLAN_H
#define STRETCH_TQ_PLAN_H

#include "tq.h"

/* Distances and costs, as in trellis.py. */
enum {
    ST_TQ_MAX_DISTANCE = 181, /* its square stays below 2^15 */
    ST_TQ_MAX_METRIC = 1023,  /* (16 + 6) of them stay below 2^15 */
    ST_TQ_RENORMALIZE = 16,   /* steps between two subtractions of the smallest cost */
};

typedef struct st_tq_plan {
    int bits;
    bool by_path; /* a class is 4 * path bit + subset (tq2, tq3), else the subset alone (tq4) */
    const st_tq_book *book;
    /* The levels, times 2^fine, that a value may take. Eight classes (tq4: its four, twice) in a row,
     * and in the rows their points: row r is point r (tq2: r mod 2; tq4: 2r in the first four, 2r + 1). */
    _Alignas(64) int16_t candidates[4][8];
    /* Class of the branch into each state from its first and its second predecessor. */
    _Alignas(64) uint8_t class_of[2][ST_TQ_STATES];
    /* The same as byte indices into eight 16-bit metrics. */
    _Alignas(64) uint8_t shuffle[2][2 * ST_TQ_STATES];
    /* Sums of neighbouring points of a class: a target belongs to the point whose number is how many of
     * these are below twice the target. Filled up with 2^15 - 1. */
    _Alignas(16) int16_t borders[8][8];
    /* Levels of a class by point. */
    int8_t level[8][8];
} st_tq_plan;

/* The plan for 2, 3 or 4 bits. */
const st_tq_plan *st_tq_plan_of(int bits);
void st_tq_plans_fill(void);

#endif
