#include "common/model/arch.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Which tensors an architecture has, what they are for, and what files call them. */

enum { ROW_1, ROW_C, ROW_HD, ROW_GD, ROW_QKV, ROW_F, ROW_V, ROW_D, ROW_E };

static int extent(const kf_arch *a, int what)
{
	switch (what) {
	case ROW_C: return a->C;
	case ROW_HD: return a->H * a->D;
	case ROW_GD: return a->G * a->D;
	case ROW_QKV: return (a->H + 2 * a->G) * a->D;
	case ROW_F: return a->F;
	case ROW_V: return a->V;
	case ROW_D: return a->D;
	case ROW_E: return a->experts;
	}
	return 1;
}

static bool always(const kf_arch *a) { (void)a; return true; }
static bool separate(const kf_arch *a) { return a->qkv == KF_QKV_SEPARATE; }
static bool fused(const kf_arch *a) { return a->qkv != KF_QKV_SEPARATE; }
static bool separate_bias(const kf_arch *a) { return separate(a) && a->qkv_bias; }
static bool fused_bias(const kf_arch *a) { return fused(a) && a->qkv_bias; }
static bool o_bias(const kf_arch *a) { return a->o_bias; }
static bool mlp(const kf_arch *a) { return !a->experts; }
static bool gate(const kf_arch *a) { return !a->experts && !a->plain_mlp; }
static bool mlp_bias(const kf_arch *a) { return mlp(a) && a->mlp_bias; }
static bool gate_bias(const kf_arch *a) { return gate(a) && a->mlp_bias; }
static bool experts(const kf_arch *a) { return a->experts > 0; }
static bool norm_bias(const kf_arch *a) { return a->norm_bias; }
static bool qk_norm(const kf_arch *a) { return a->qk_norm; }
static bool post_norms(const kf_arch *a) { return a->post_norms; }
static bool no_post_norms(const kf_arch *a) { return !a->post_norms; }
static bool untied(const kf_arch *a) { return !a->tied; }

/* Names in Hugging Face's folders. */
enum { STYLE_LLAMA, STYLE_NEOX, STYLE_MPT, STYLE_INTERN, STYLES };

static int style_of(const kf_arch *a)
{
	switch (a->family) {
	case KF_FAMILY_GPT_NEOX: return STYLE_NEOX;
	case KF_FAMILY_MPT: return STYLE_MPT;
	case KF_FAMILY_INTERNLM2: return STYLE_INTERN;
	default: return STYLE_LLAMA;
	}
}

static const char *const layer_prefix[STYLES] = { "model.layers.%d.", "gpt_neox.layers.%d.",
	"transformer.blocks.%d.", "model.layers.%d." };

typedef struct {
	kf_part part;
	int rows, cols;
	bool (*has)(const kf_arch *);
	const char *name[STYLES], *gguf;
} row;

/* %d: the expert. A vector has one row. */
static const row first[] = {
	{ KF_P_EMBED, ROW_V, ROW_C, always, { "model.embed_tokens.weight", "gpt_neox.embed_in.weight",
		"transformer.wte.weight", "model.tok_embeddings.weight" }, "token_embd.weight" },
}, last[] = {
	{ KF_P_NORM, ROW_1, ROW_C, always, { "model.norm.weight", "gpt_neox.final_layer_norm.weight",
		"transformer.norm_f.weight", "model.norm.weight" }, "output_norm.weight" },
	{ KF_P_NORM_B, ROW_1, ROW_C, norm_bias, { NULL, "gpt_neox.final_layer_norm.bias" }, "output_norm.bias" },
	{ KF_P_HEAD, ROW_V, ROW_C, untied, { "lm_head.weight", "embed_out.weight", "lm_head.weight", "output.weight" },
		"output.weight" },
}, layer[] = {
	{ KF_P_Q, ROW_HD, ROW_C, separate, { "self_attn.q_proj.weight" }, "attn_q.weight" },
	{ KF_P_QB, ROW_1, ROW_HD, separate_bias, { "self_attn.q_proj.bias" }, "attn_q.bias" },
	{ KF_P_K, ROW_GD, ROW_C, separate, { "self_attn.k_proj.weight" }, "attn_k.weight" },
	{ KF_P_KB, ROW_1, ROW_GD, separate_bias, { "self_attn.k_proj.bias" }, "attn_k.bias" },
	{ KF_P_V, ROW_GD, ROW_C, separate, { "self_attn.v_proj.weight" }, "attn_v.weight" },
	{ KF_P_VB, ROW_1, ROW_GD, separate_bias, { "self_attn.v_proj.bias" }, "attn_v.bias" },
	{ KF_P_QKV, ROW_QKV, ROW_C, fused, { NULL, "attention.query_key_value.weight", "attn.Wqkv.weight",
		"attention.wqkv.weight" }, "attn_qkv.weight" },
	{ KF_P_QKVB, ROW_1, ROW_QKV, fused_bias, { NULL, "attention.query_key_value.bias", NULL, "attention.wqkv.bias" },
		"attn_qkv.bias" },
	{ KF_P_O, ROW_C, ROW_HD, always, { "self_attn.o_proj.weight", "attention.dense.weight", "attn.out_proj.weight",
		"attention.wo.weight" }, "attn_output.weight" },
	{ KF_P_OB, ROW_1, ROW_C, o_bias, { "self_attn.o_proj.bias", "attention.dense.bias", NULL, "attention.wo.bias" },
		"attn_output.bias" },
	{ KF_P_Q_NORM, ROW_1, ROW_D, qk_norm, { "self_attn.q_norm.weight" }, "attn_q_norm.weight" },
	{ KF_P_K_NORM, ROW_1, ROW_D, qk_norm, { "self_attn.k_norm.weight" }, "attn_k_norm.weight" },
	{ KF_P_GATE, ROW_F, ROW_C, gate, { "mlp.gate_proj.weight", NULL, NULL, "feed_forward.w1.weight" },
		"ffn_gate.weight" },
	{ KF_P_GATEB, ROW_1, ROW_F, gate_bias, { "mlp.gate_proj.bias" }, "ffn_gate.bias" },
	{ KF_P_UP, ROW_F, ROW_C, mlp, { "mlp.up_proj.weight", "mlp.dense_h_to_4h.weight", "ffn.up_proj.weight",
		"feed_forward.w3.weight" }, "ffn_up.weight" },
	{ KF_P_UPB, ROW_1, ROW_F, mlp_bias, { "mlp.up_proj.bias", "mlp.dense_h_to_4h.bias" }, "ffn_up.bias" },
	{ KF_P_DOWN, ROW_C, ROW_F, mlp, { "mlp.down_proj.weight", "mlp.dense_4h_to_h.weight", "ffn.down_proj.weight",
		"feed_forward.w2.weight" }, "ffn_down.weight" },
	{ KF_P_DOWNB, ROW_1, ROW_C, mlp_bias, { "mlp.down_proj.bias", "mlp.dense_4h_to_h.bias" }, "ffn_down.bias" },
	{ KF_P_ROUTER, ROW_E, ROW_C, experts, { "block_sparse_moe.gate.weight" }, "ffn_gate_inp.weight" },
	{ KF_P_E_GATE, ROW_F, ROW_C, experts, { "block_sparse_moe.experts.%d.w1.weight" }, "ffn_gate_exps.weight" },
	{ KF_P_E_DOWN, ROW_C, ROW_F, experts, { "block_sparse_moe.experts.%d.w2.weight" }, "ffn_down_exps.weight" },
	{ KF_P_E_UP, ROW_F, ROW_C, experts, { "block_sparse_moe.experts.%d.w3.weight" }, "ffn_up_exps.weight" },
	{ KF_P_NORM1, ROW_1, ROW_C, always, { "input_layernorm.weight", "input_layernorm.weight", "norm_1.weight",
		"attention_norm.weight" }, "attn_norm.weight" },
	{ KF_P_NORM1B, ROW_1, ROW_C, norm_bias, { NULL, "input_layernorm.bias" }, "attn_norm.bias" },
	/* Hugging Face's post_attention_layernorm is the norm before the MLP, except where there are norms after both. */
	{ KF_P_NORM2, ROW_1, ROW_C, no_post_norms, { "post_attention_layernorm.weight",
		"post_attention_layernorm.weight", "norm_2.weight", "ffn_norm.weight" }, "ffn_norm.weight" },
	{ KF_P_NORM2B, ROW_1, ROW_C, norm_bias, { NULL, "post_attention_layernorm.bias" }, "ffn_norm.bias" },
	{ KF_P_POST1, ROW_1, ROW_C, post_norms, { "post_attention_layernorm.weight" }, "post_attention_norm.weight" },
	{ KF_P_NORM2, ROW_1, ROW_C, post_norms, { "pre_feedforward_layernorm.weight" }, "ffn_norm.weight" },
	{ KF_P_POST2, ROW_1, ROW_C, post_norms, { "post_feedforward_layernorm.weight" }, "post_ffw_norm.weight" },
};
#define COUNT(t) ((int)(sizeof t / sizeof *t))

static bool of_expert(const row *r) { return r->part >= KF_P_E_GATE && r->part <= KF_P_E_UP; }

static int per_expert(const kf_arch *a) { return a->experts ? 3 : 0; }

static int per_layer(const kf_arch *a)
{
	int n = a->experts * per_expert(a);

	for (int k = 0; k < COUNT(layer); k++) n += !of_expert(&layer[k]) && layer[k].has(a);
	return n;
}

static const row *pick(const kf_arch *a, const row *t, int count, int i)
{
	for (int k = 0; k < count; k++)
		if (t[k].has(a) && i-- == 0) return &t[k];
	return NULL;
}

/* The row of the table for tensor i, and where it is; NULL: there is no such tensor. */
static const row *locate(const kf_arch *a, int i, kf_place *p)
{
	int n = per_layer(a), at, e = 0;
	const row *r;

	*p = (kf_place){ .layer = -1, .expert = -1 };
	if (i == 0) {
		r = &first[0];
	} else if (i <= a->L * n) {
		p->layer = (i - 1) / n;
		at = (i - 1) % n;
		for (r = layer; r < layer + COUNT(layer); r++) {
			if (!r->has(a)) continue;
			if (r->part == KF_P_E_GATE && at < a->experts * per_expert(a)) {
				e = at / per_expert(a);
				r += at % per_expert(a);
				p->expert = e;
				break;
			}
			if (r->part == KF_P_E_GATE) {
				at -= a->experts * per_expert(a);
				r += per_expert(a) - 1;
			} else if (at-- == 0) {
				break;
			}
		}
	} else {
		r = pick(a, last, COUNT(last), i - 1 - a->L * n);
	}
	if (r) p->part = r->part;
	return r;
}

int kf_arch_tensor(const kf_arch *a, int i, char *name, uint64_t *rows, uint64_t *cols)
{
	int n = 1 + a->L * per_layer(a), style = style_of(a), len = 0;
	const row *r;
	kf_place p;

	for (int k = 0; k < COUNT(last); k++) n += last[k].has(a);
	if (i < 0 || i >= n) return n;
	r = locate(a, i, &p);
	assert(r && r->name[style]);
	if (p.layer >= 0) len = snprintf(name, 128, layer_prefix[style], p.layer);
	if (p.expert >= 0) snprintf(name + len, (size_t)(128 - len), r->name[style], p.expert);
	else snprintf(name + len, (size_t)(128 - len), "%s", r->name[style]);
	*rows = (uint64_t)extent(a, r->rows);
	*cols = (uint64_t)extent(a, r->cols);
	return n;
}

kf_place kf_arch_place(const kf_arch *a, int i)
{
	kf_place p;
	const row *r = locate(a, i, &p);

	assert(r);
	(void)r;
	return p;
}

void kf_arch_gguf_name(const kf_arch *a, int i, char name[128])
{
	kf_place p;
	const row *r = locate(a, i, &p);

	name[0] = 0;
	if (!r || !r->gguf) return;
	if (p.layer >= 0) snprintf(name, 128, "blk.%d.%s", p.layer, r->gguf);
	else snprintf(name, 128, "%s", r->gguf);
}
