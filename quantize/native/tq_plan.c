/* The tables of the writers, made from the codebooks and the trellis. */
#include "tq_plan.h"

static st_tq_plan plans[3];

const st_tq_plan *st_tq_plan_of(int bits) {
    return &plans[bits - 2];
}

/* Position in the codebook (16 table + 4 point + subset) of a class and one of its points. */
static int position(int bits, int class, int point) {
    const int subset = class & 3;
    const int path = class >> 2;
    if (bits == 2) {
        return 4 * (2 * path + point) + subset;
    }
    return bits == 3 ? 16 * path + 4 * point + subset : 4 * point + subset;
}

static void fill(st_tq_plan *plan, int bits) {
    const int points = 1 << (bits - 1);
    plan->bits = bits;
    plan->by_path = bits < 4;
    plan->book = st_tq_book_of(bits);
    for (int class = 0; class < 8; class++) {
        const int used = plan->by_path ? class : class & 3;
        for (int p = 0; p < points; p++) {
            plan->level[class][p] = plan->book->levels[position(bits, used, p)];
        }
        for (int p = 0; p < 8; p++) {
            const bool inside = p + 1 < points;
            plan->borders[class][p] =
                (int16_t)(inside ? (plan->level[class][p] + plan->level[class][p + 1]) * (1 << plan->book->fine)
                                 : INT16_MAX);
        }
        for (int row = 0; row < 4; row++) {
            const int p = bits == 2 ? row % 2 : bits == 3 ? row : 2 * row + (class >> 2);
            plan->candidates[row][class] = (int16_t)(plan->level[class][p] * (1 << plan->book->fine));
        }
    }
    for (int other = 0; other < 2; other++) {
        for (int state = 0; state < ST_TQ_STATES; state++) {
            const unsigned window = (unsigned)(state | other << ST_TQ_MEMORY);
            const int class = st_tq_subset(window) + (plan->by_path ? 4 * (state & 1) : 0);
            plan->class_of[other][state] = (uint8_t)class;
            plan->shuffle[other][2 * state] = (uint8_t)(2 * class);
            plan->shuffle[other][2 * state + 1] = (uint8_t)(2 * class + 1);
        }
    }
}

void st_tq_plans_fill(void) {
    for (int bits = 2; bits <= 4; bits++) {
        fill(&plans[bits - 2], bits);
    }
}
