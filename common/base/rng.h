/* Random numbers that are the same everywhere: splitmix64 seeding xoshiro256**
 * (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021). */
#ifndef KF_BASE_RNG_H
#define KF_BASE_RNG_H

#include <stdint.h>

typedef struct { uint64_t s[4]; } kf_rng;

void kf_rng_seed(kf_rng *r, uint64_t seed);
uint64_t kf_rng_next(kf_rng *r);
uint64_t kf_rng_below(kf_rng *r, uint64_t n);   /* uniform in [0, n), n > 0 */
double kf_rng_real(kf_rng *r);                  /* uniform in [0, 1) */
double kf_rng_normal(kf_rng *r);                /* mean 0, variance 1 */

#endif
