/* What the tests of the CUDA kernels share: numbers to and from the emulated device in either type, every case in several
 * orders of threads and blocks with the same bits expected, comparison with the reference. */
#ifndef KF_TESTS_UNIT_EMU_UTIL_H
#define KF_TESTS_UNIT_EMU_UTIL_H

#include "common/ops/cuda/kernels.h"
#include "tests/emu/emu.h"
#include "tests/unit/ops/util.h"

#define FOR_TYPES(type) for (kf_num_type type = KF_NUM_F32; type <= KF_NUM_BF16; type++)

/* for (FOR_ORDERS(o)): every case runs once a turn; outputs of the later turns must be those of the first. */
#ifndef ORDERS
#define ORDERS 3
#endif
#define FOR_ORDERS(o) int o = 0; o < ORDERS && (emu_order((emu_turns)o, 17), true); o++

static inline float bf16_float(uint16_t b)
{
	const uint32_t u = (uint32_t)b << 16;
	float f;

	memcpy(&f, &u, sizeof f);
	return f;
}

static inline uint16_t float_bf16(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof u);
	return (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Round p to what the type can hold. */
static inline void round_numbers(kf_num_type type, float *p, size_t n)
{
	for (size_t i = 0; type == KF_NUM_BF16 && i < n; i++) p[i] = bf16_float(float_bf16(p[i]));
}

/* Gaussian numbers that `type` can hold: the reference then computes from the same. */
static inline float *numbers(kf_rng *r, kf_num_type type, size_t n, double deviation)
{
	float *p = random_floats(r, n, deviation);

	round_numbers(type, p, n);
	return p;
}

/* On the device: of host numbers, of bytes, of n numbers not yet written. */
static inline void *device_bytes(const void *host, size_t bytes)
{
	void *p = emu_alloc(bytes);

	assert_non_null(p);
	if (bytes && host) memcpy(p, host, bytes);
	return p;
}

static inline void *device_empty(kf_num_type type, size_t n) { return device_bytes(NULL, n * kf_num_size(type)); }

static inline void *device_numbers(kf_num_type type, const float *host, size_t n)
{
	uint16_t *p = device_empty(type, n);

	if (type == KF_NUM_F32) memcpy(p, host, n * sizeof *host);
	for (size_t i = 0; type == KF_NUM_BF16 && i < n; i++) p[i] = float_bf16(host[i]);
	return p;
}

static inline float *host_numbers(kf_num_type type, const void *p, size_t n)
{
	float *out = kf_alloc(n, sizeof *out);

	assert_non_null(out);
	for (size_t i = 0; i < n; i++) out[i] = type == KF_NUM_BF16 ? bf16_float(((const uint16_t *)p)[i]) : ((const float *)p)[i];
	return out;
}

/* The CUDA backend's table, on the emulator. */
extern const kf_ops kf_cuda_ops;

static inline kf_exec *emulated(kf_num_type type)
{
	kf_exec *x;
	kf_err err;

	if (kf_exec_new(&kf_cuda_ops, NULL, type == KF_NUM_BF16 ? KF_COMPUTE_BF16 : KF_COMPUTE_F32, &x, &err) != KF_OK) fail_msg("%s", err.text);
	assert_int_equal(x->num, type);
	return x;
}

static inline void launched(int status)
{
	if (status) fail_msg("launch failed: %d %s", status, emu_error() ? emu_error() : "");
}

/* |got - want| <= tolerance * max(1, largest |want|), and half a step of what the type can hold. */
static inline void close_numbers(const char *what, kf_num_type type, const float *got, const float *want, size_t n, double tolerance)
{
	double scale = 1;

	for (size_t i = 0; i < n; i++) scale = fmax(scale, fabs((double)want[i]));
	for (size_t i = 0; i < n; i++) {
		const double allowed = tolerance * scale + (type == KF_NUM_BF16 ? fabs((double)want[i]) / 256 : 0);

		if (fabs((double)got[i] - want[i]) <= allowed || (double)got[i] == (double)want[i]) continue;
		fail_msg("%s (%s): element %zu of %zu is %.9g, should be %.9g: off by %.3g, allowed %.3g", what,
			type == KF_NUM_BF16 ? "bf16" : "f32", i, n, (double)got[i], (double)want[i], fabs((double)got[i] - want[i]), allowed);
	}
}

/* An output of the turn: compared with `want` in the first, which is kept, and bit by bit with that in later ones. Frees p. */
static inline void output(const char *what, int turn, float **first, kf_num_type type, void *p, const float *want, size_t n,
	double tolerance)
{
	float *got = host_numbers(type, p, n);

	emu_free(p);
	if (turn == 0) {
		if (want) close_numbers(what, type, got, want, n, tolerance);
		*first = got;
	} else {
		if (n && memcmp(got, *first, n * sizeof *got)) fail_msg("%s depends on the order of threads or blocks", what);
		kf_free(got);
	}
	if (turn == ORDERS - 1) kf_free(*first);
}

#endif
