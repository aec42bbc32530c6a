/* Codebooks of tq2, tq3 and tq4, made by benchmarks/train_levels.py. Do not edit. */
#ifndef STRETCH_TQ_LEVELS_H
#define STRETCH_TQ_LEVELS_H

#include <stdint.h>

/* Levels by table, point and subset; see tq.h. tq2 has one table, repeated. */
typedef struct st_tq_book {
    int8_t levels[32];
    float sigma_part; /* level = value / (sigma_part * root mean square + peak_part * largest value) */
    float peak_part;
    int fine;   /* values are compared with levels in steps of 2^-fine levels */
    int coarse; /* squared distances are shifted right by this before they are added up */
} st_tq_book;

static const st_tq_book st_tq2_book = {
    {-85, -57, -32, -10, 10, 32, 60, 122, -122, -60, -32, -10, 10, 32, 57, 85,
     -85, -57, -32, -10, 10, 32, 60, 122, -122, -60, -32, -10, 10, 32, 57, 85},
    0.0106421f, 0.00242994f, 0, 3};

static const st_tq_book st_tq3_book = {
    {-102, -78, -63, -49, -37, -25, -15, -5, 5, 15, 26, 37, 49, 64, 85, 127,
     -127, -85, -64, -49, -37, -26, -15, -5, 5, 15, 25, 37, 49, 63, 78, 102},
    0.00325591f, 0.00629477f, 1, 2};

static const st_tq_book st_tq4_book = {
    {-126, -108, -94, -83, -73, -64, -56, -49, -42, -36, -30, -24, -19, -13, -8, -3,
     3, 8, 13, 19, 24, 30, 36, 42, 49, 56, 64, 73, 83, 94, 108, 126},
    0.0f, 0.0078061f, 2, 2};

#endif
