/* Small GGUF files made in memory, for tests. */
#ifndef KF_TESTS_MAKE_GGUF_H
#define KF_TESTS_MAKE_GGUF_H

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "common/model/gguf.h"

typedef struct {
	kf_buf kv, info, data;
	uint64_t n_kv, n_tensors;
	uint32_t version;
} gguf_maker;

static inline void put_name(kf_buf *b, const char *s)
{
	kf_buf_u64(b, strlen(s));
	kf_buf_put(b, s, strlen(s));
}

static inline void put_key(gguf_maker *m, const char *key, kf_gguf_type type)
{
	put_name(&m->kv, key);
	kf_buf_u32(&m->kv, (uint32_t)type);
	m->n_kv++;
}

static inline void put_u32(gguf_maker *m, const char *key, uint32_t v)
{
	put_key(m, key, KF_GGUF_U32);
	kf_buf_u32(&m->kv, v);
}

static inline void put_f32(gguf_maker *m, const char *key, float v)
{
	put_key(m, key, KF_GGUF_F32);
	kf_buf_f32(&m->kv, v);
}

static inline void put_bool(gguf_maker *m, const char *key, bool v)
{
	put_key(m, key, KF_GGUF_BOOL);
	kf_buf_u8(&m->kv, v);
}

static inline void put_string(gguf_maker *m, const char *key, const char *v)
{
	put_key(m, key, KF_GGUF_STRING);
	put_name(&m->kv, v);
}

static inline void put_array(gguf_maker *m, const char *key, kf_gguf_type item, uint64_t n)
{
	put_key(m, key, KF_GGUF_ARRAY);
	kf_buf_u32(&m->kv, (uint32_t)item);
	kf_buf_u64(&m->kv, n);
}

static inline void put_strings(gguf_maker *m, const char *key, const char *const *v, uint64_t n)
{
	put_array(m, key, KF_GGUF_STRING, n);
	for (uint64_t i = 0; i < n; i++) put_name(&m->kv, v[i]);
}

/* rows = 0: a vector. stack = 0: no third dimension. Values are small and random. */
static inline void put_stack(
	gguf_maker *m, kf_rng *r, const char *name, kf_dtype t, uint64_t stack, uint64_t rows, uint64_t cols)
{
	size_t bytes = kf_dtype_row_bytes(t, cols) * (rows ? rows : 1) * (stack ? stack : 1);

	put_name(&m->info, name);
	kf_buf_u32(&m->info, stack ? 3 : rows ? 2 : 1);
	kf_buf_u64(&m->info, cols);
	if (rows) kf_buf_u64(&m->info, rows);
	if (stack) kf_buf_u64(&m->info, stack);
	kf_buf_u32(&m->info, (uint32_t)t);
	kf_buf_fill(&m->data, 0, (32 - m->data.len % 32) % 32);
	kf_buf_u64(&m->info, m->data.len);
	m->n_tensors++;
	for (size_t i = 0; i < bytes; i++) {
		if (t == KF_F32 && i % 4 == 0) {
			kf_buf_f32(&m->data, (float)kf_rng_normal(r) * 0.1f);
			i += 3;
		} else {
			kf_buf_u8(&m->data, (uint8_t)(kf_rng_next(r) & 0x3f));
		}
	}
}

static inline void put_tensor(
	gguf_maker *m, kf_rng *r, const char *name, kf_dtype t, uint64_t rows, uint64_t cols)
{
	put_stack(m, r, name, t, 0, rows, cols);
}

/* The whole file; clears the maker. */
static inline void finish_gguf(gguf_maker *m, kf_buf *out)
{
	kf_err err;

	kf_buf_clear(out);
	kf_buf_put(out, "GGUF", 4);
	kf_buf_u32(out, m->version ? m->version : 3);
	kf_buf_u64(out, m->n_tensors);
	kf_buf_u64(out, m->n_kv);
	kf_buf_put(out, m->kv.data, m->kv.len);
	kf_buf_put(out, m->info.data, m->info.len);
	kf_buf_fill(out, 0, (32 - out->len % 32) % 32);
	kf_buf_put(out, m->data.data, m->data.len);
	assert_int_equal(kf_buf_check(out, &err), KF_OK);
	kf_buf_release(&m->kv);
	kf_buf_release(&m->info);
	kf_buf_release(&m->data);
	memset(m, 0, sizeof *m);
}

/* The metadata and tensors of a model of 2 layers: C 32, H 4, G 2, D 8, F 64, V 40. arch: llama, qwen2 or gemma3. */
static inline void put_model(gguf_maker *m, kf_rng *r, const char *arch, kf_dtype matrices)
{
	static const struct { const char *key; uint32_t v; } ints[] = {
		{ "block_count", 2 }, { "embedding_length", 32 }, { "feed_forward_length", 64 }, { "attention.head_count", 4 },
		{ "attention.head_count_kv", 2 }, { "context_length", 128 }, { "attention.key_length", 8 },
	};
	bool gemma = !strcmp(arch, "gemma3"), qwen = !strcmp(arch, "qwen2");
	char key[64];

	put_string(m, "general.architecture", arch);
	for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
		snprintf(key, sizeof key, "%s.%s", arch, ints[i].key);
		put_u32(m, key, ints[i].v);
	}
	snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
	put_f32(m, key, 1e-5f);
	snprintf(key, sizeof key, "%s.rope.freq_base", arch);
	put_f32(m, key, 50000);
	if (gemma) put_u32(m, "gemma3.attention.sliding_window", 16);
	put_tensor(m, r, "token_embd.weight", matrices, 40, 32);
	for (int l = 0; l < 2; l++) {
		const struct { const char *name; kf_dtype t; int rows, cols; bool has; } t[] = {
			{ "attn_q.weight", matrices, 32, 32, true }, { "attn_k.weight", matrices, 16, 32, true },
			{ "attn_v.weight", matrices, 16, 32, true }, { "attn_output.weight", matrices, 32, 32, true },
			{ "attn_q.bias", KF_F32, 0, 32, qwen }, { "attn_k.bias", KF_F32, 0, 16, qwen },
			{ "attn_v.bias", KF_F32, 0, 16, qwen }, { "attn_q_norm.weight", KF_F32, 0, 8, gemma },
			{ "attn_k_norm.weight", KF_F32, 0, 8, gemma }, { "attn_norm.weight", KF_F32, 0, 32, true },
			{ "ffn_norm.weight", KF_F32, 0, 32, true }, { "post_attention_norm.weight", KF_F32, 0, 32, gemma },
			{ "post_ffw_norm.weight", KF_F32, 0, 32, gemma }, { "ffn_gate.weight", matrices, 64, 32, true },
			{ "ffn_up.weight", matrices, 64, 32, true }, { "ffn_down.weight", matrices, 32, 64, true },
		};
		for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
			if (!t[i].has) continue;
			snprintf(key, sizeof key, "blk.%d.%s", l, t[i].name);
			put_tensor(m, r, key, t[i].t, (uint64_t)t[i].rows, (uint64_t)t[i].cols);
		}
	}
	put_tensor(m, r, "output_norm.weight", KF_F32, 0, 32);
	if (qwen) put_tensor(m, r, "output.weight", matrices, 40, 32);
}

/* A tokenizer of n one-letter tokens, gpt2 or llama style. */
static inline void put_vocab(gguf_maker *m, const char *model, int n)
{
	static const char *const merges[] = { "a b", "b c" };
	char text[64][4];
	const char *list[64];

	for (int i = 0; i < n; i++) {
		snprintf(text[i], sizeof text[i], "%c%d", 'a' + i % 26, i / 26 % 10);
		list[i] = text[i];
	}
	put_string(m, "tokenizer.ggml.model", model);
	put_strings(m, "tokenizer.ggml.tokens", list, (uint64_t)n);
	put_array(m, "tokenizer.ggml.token_type", KF_GGUF_I32, (uint64_t)n);
	for (int i = 0; i < n; i++) kf_buf_u32(&m->kv, i < 3 ? KF_TT_CONTROL : KF_TT_NORMAL);
	if (!strcmp(model, "gpt2")) {
		put_strings(m, "tokenizer.ggml.merges", merges, 2);
	} else {
		put_array(m, "tokenizer.ggml.scores", KF_GGUF_F32, (uint64_t)n);
		for (int i = 0; i < n; i++) kf_buf_f32(&m->kv, -(float)i);
	}
}

static inline void write_bytes(const char *path, const void *data, size_t n)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

#endif
