#include "common/model/tensor.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "common/model/tensor_quant.h"

/* Index: the number GGUF gives the type. A name without a size is a type we can name but not read. */
static const struct {
	const char *name;
	uint16_t block, bytes;
} types[] = {
	[KF_F32] = { "F32", 1, 4 },
	[KF_F16] = { "F16", 1, 2 },
	[KF_Q4_0] = { "Q4_0", 32, 18 },
	[KF_Q4_1] = { "Q4_1", 32, 20 },
	[KF_Q5_0] = { "Q5_0", 32, 22 },
	[KF_Q5_1] = { "Q5_1", 32, 24 },
	[KF_Q8_0] = { "Q8_0", 32, 34 },
	[9] = { "Q8_1", 0, 0 },
	[KF_Q2_K] = { "Q2_K", 256, 84 },
	[KF_Q3_K] = { "Q3_K", 256, 110 },
	[KF_Q4_K] = { "Q4_K", 256, 144 },
	[KF_Q5_K] = { "Q5_K", 256, 176 },
	[KF_Q6_K] = { "Q6_K", 256, 210 },
	[15] = { "Q8_K", 0, 0 },
	[16] = { "IQ2_XXS", 0, 0 },
	[17] = { "IQ2_XS", 0, 0 },
	[18] = { "IQ3_XXS", 0, 0 },
	[19] = { "IQ1_S", 0, 0 },
	[20] = { "IQ4_NL", 0, 0 },
	[21] = { "IQ3_S", 0, 0 },
	[22] = { "IQ2_S", 0, 0 },
	[23] = { "IQ4_XS", 0, 0 },
	[24] = { "I8", 0, 0 },
	[25] = { "I16", 0, 0 },
	[26] = { "I32", 0, 0 },
	[27] = { "I64", 0, 0 },
	[28] = { "F64", 0, 0 },
	[29] = { "IQ1_M", 0, 0 },
	[KF_BF16] = { "BF16", 1, 2 },
	[34] = { "TQ1_0", 0, 0 },
	[35] = { "TQ2_0", 0, 0 },
	[39] = { "MXFP4", 0, 0 },
};
#define N_TYPES ((int)(sizeof types / sizeof *types))

const char *kf_dtype_name(kf_dtype t)
{
	int i = (int)t;
	if (i >= 0 && i < N_TYPES && types[i].name) return types[i].name;
	return "unknown type";
}

bool kf_dtype_known(int t)
{
	return t >= 0 && t < N_TYPES && types[t].block;
}

int kf_dtype_block(kf_dtype t)
{
	assert(kf_dtype_known((int)t));
	return types[t].block;
}

size_t kf_dtype_row_bytes(kf_dtype t, uint64_t cols)
{
	assert(kf_dtype_known((int)t));
	if (cols % types[t].block || cols / types[t].block > SIZE_MAX / types[t].bytes) return 0;
	return cols / types[t].block * types[t].bytes;
}

float kf_f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 1023;
	union { uint32_t u; float f; } x;

	if (exp == 31) {
		x.u = sign | 0x7f800000u | man << 13 | (man ? 1u << 22 : 0); /* quiet, as the processor does */
	} else if (exp) {
		x.u = sign | (exp + 112) << 23 | man << 13;
	} else {
		x.f = (float)man * 0x1p-24f;
		x.u |= sign;
	}
	return x.f;
}

uint16_t kf_f32_to_f16(float f)
{
	union { float f; uint32_t u; } x = { f };
	uint32_t sign = x.u >> 16 & 0x8000, a = x.u & 0x7fffffffu;

	if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
	if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00);       /* 65520 and up round to infinity */
	if (a < 0x38800000u) {
		/* Below 2^-14: adding 0.5 puts the last bit of a float at 2^-24, the
		 * half's last, and so rounds to nearest even by itself. */
		union { float f; uint32_t u; } y = { fabsf(f) + 0.5f };
		return (uint16_t)(sign | (y.u - 0x3f000000u));
	}
	return (uint16_t)(sign | ((a + 0xfff + (a >> 13 & 1) - 0x38000000u) >> 13));
}

static bool moved(const kf_tensor *t) { return t->rope_heads > 0 || t->qkv_heads > 0; }

/* The row of the file that holds row r of Hugging Face's order. GGUF stores the two
 * halves of a llama head that rotate together as neighbours: (2, D/2) became (D/2, 2);
 * and of a fused projection (H, 3, D) as (3, H, D). */
static uint64_t file_row(const kf_tensor *t, uint64_t rows, uint64_t r)
{
	uint64_t D, i;

	if (t->qkv_heads > 0) {
		uint64_t H = (uint64_t)t->qkv_heads;
		D = rows / (3 * H);
		return (r / D % 3 * H + r / (3 * D)) * D + r % D;
	}
	if (t->rope_heads <= 0) return r;
	D = rows / (uint64_t)t->rope_heads;
	i = r % D;
	return r - i + i % (D / 2) * 2 + i / (D / 2);
}

static void add_all(float *out, uint64_t n, float add)
{
	for (uint64_t i = 0; i < n; i++) out[i] += add;
}

static void one_row(const kf_tensor *t, uint64_t row, float *out)
{
	assert(row < t->rows);
	kf_unpack_blocks(t->dtype, t->data + file_row(t, t->rows, row) * kf_dtype_row_bytes(t->dtype, t->cols),
		t->cols / types[t->dtype].block, out);
}

/* A vector whose elements are moved about as the rows of a matrix are (biases). */
static void moved_vector(const kf_tensor *t, float *out)
{
	int block = types[t->dtype].block;
	size_t bytes = types[t->dtype].bytes;

	for (uint64_t i = 0; i < t->cols; i++) {
		uint64_t j = file_row(t, t->cols, i);
		out[i] = kf_block_value(t->dtype, t->data + j / (uint64_t)block * bytes, (int)(j % (uint64_t)block));
	}
}

void kf_tensor_rows(const kf_tensor *t, uint64_t row, uint64_t n, float *out)
{
	assert(row <= t->rows && n <= t->rows - row);
	if (moved(t) && t->n_dims == 1) {
		if (n) moved_vector(t, out);
	} else if (moved(t)) {
		for (uint64_t i = 0; i < n; i++) one_row(t, row + i, out + i * t->cols);
	} else {
		kf_unpack_blocks(t->dtype, t->data + row * kf_dtype_row_bytes(t->dtype, t->cols),
			n * (t->cols / types[t->dtype].block), out);
	}
	if (t->add != 0) add_all(out, n * t->cols, t->add);
}

void kf_tensor_gather(const kf_tensor *t, const int32_t *index, uint64_t n, float *out)
{
	for (uint64_t i = 0; i < n; i++) {
		assert(index[i] >= 0);
		kf_tensor_rows(t, (uint64_t)index[i], 1, out + i * t->cols);
	}
}

struct unpack { const kf_tensor *t; float *out; };

static void unpack_range(void *arg, size_t begin, size_t end, int worker)
{
	const struct unpack *u = arg;
	(void)worker;
	kf_tensor_rows(u->t, begin, end - begin, u->out + begin * u->t->cols);
}

void kf_tensor_unpack(const kf_tensor *t, kf_pool *pool, float *out)
{
	struct unpack u = { t, out };

	if (t->rows * t->cols < 65536) kf_tensor_rows(t, 0, t->rows, out); /* not worth waking anybody */
	else kf_pool_split(pool, t->rows, 1, unpack_range, &u);
}
