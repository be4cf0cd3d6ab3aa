#include "common/model/weights_impl.h"

#include <assert.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/listing.h"
#include "common/base/stop.h"

#define MAX_CONFIG (16u << 20)

const char *kf_weights_path(const kf_weights *w) { return w->path; }
const kf_arch *kf_weights_arch(const kf_weights *w) { return &w->arch; }
const json_t *kf_weights_config(const kf_weights *w) { return w->config; }
const json_t *kf_weights_generation(const kf_weights *w) { return w->generation; }

const json_t *kf_weights_ends(const kf_weights *w)
{
	const json_t *in[] = { w->generation, w->config, json_object_get(w->config, "text_config") };

	for (int i = 0; i < 3; i++) {
		const json_t *ids = json_object_get(in[i], "eos_token_id");

		if (json_is_integer(ids) || json_array_size(ids) > 0) return ids;
	}
	return NULL;
}

int kf_weights_count(const kf_weights *w) { return w->n; }
const kf_tensor *kf_weights_at(const kf_weights *w, int i)
{
	return i < 0 || i >= w->n ? NULL : &w->tensor[i];
}

static bool ends_with(const char *s, const char *tail)
{
	size_t n = strlen(s), k = strlen(tail);

	return n >= k && !strcmp(s + n - k, tail);
}

/* collect() put the 1 on a folder's Gemma norms, which a GGUF file has in it: either way one too many. */
kf_tensor kf_weights_stored(const kf_weights *w, const kf_tensor *t)
{
	kf_tensor stored = *t;

	if (w->arch.norm_plus_one && ends_with(t->name, "norm.weight")) stored.add -= 1;
	return stored;
}

void kf_weights_drop(const kf_tensor *t)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)t->data, to;

	to = (from + kf_dtype_row_bytes(t->dtype, t->cols) * t->rows) / page * page;
	from = (from + page - 1) / page * page;
	if (from >= to) return;
	/* whole pages of a read-only map of a file: nothing is lost; a refusal costs memory only */
#ifdef MADV_COLD
	madvise((void *)from, to - from, MADV_COLD);   /* of the file's pages that stay in the kernel's cache these go first */
#endif
	madvise((void *)from, to - from, MADV_DONTNEED);
}

struct named { const char *name; int index; };

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static int find(const kf_weights *w, const char *name)
{
	struct named key = { name, 0 }, *hit = bsearch(&key, w->by_name, (size_t)w->n, sizeof key, by_name);

	return hit ? hit->index : -1;
}

const kf_tensor *kf_weights_find(const kf_weights *w, const char *name)
{
	int i = find(w, name);

	return i < 0 ? NULL : &w->tensor[i];
}

/* ---- the tables ---- */

/* Whether any matrix of an expert is a tensor of its own, as in GGUF files of before 2024: blk.0.ffn_gate.1.weight. */
static bool experts_apart(const kf_gguf *g)
{
	char digit[2];

	for (int i = 0; i < kf_gguf_tensors(g); i++)
		if (sscanf(kf_gguf_tensor_at(g, i)->name, "blk.%*[0-9].ffn_%*[a-z].%1[0-9]", digit) == 1) return true;
	return false;
}

/* What the file calls tensor i, or would call it. GGUF stacks the experts of a layer; in a file that has experts apart, those
 * without a stack go by their own names. */
static void source_name(const kf_weights *w, int i, char name[128])
{
	kf_place p = kf_arch_place(&w->arch, i);
	uint64_t rows, cols;
	char *stack;

	if (!w->gguf) {
		kf_arch_tensor(&w->arch, i, name, &rows, &cols);
		return;
	}
	kf_arch_gguf_name(&w->arch, i, name);
	if (p.expert < 0 || !w->experts_apart || kf_gguf_tensor_find(w->gguf, name)) return;
	if ((stack = strstr(name, "_exps."))) snprintf(stack, (size_t)(name + 128 - stack), ".%d.weight", p.expert);
}

/* Tensor i, called `name` in the file, transforms aside. What is wrong is complained of, once for a stack of experts. */
static void source_find(const kf_weights *w, int i, const char *name, uint64_t rows, uint64_t cols, kf_tensor *out,
	kf_listing *missing, kf_listing *wrong)
{
	const kf_gguf_tensor *g = w->gguf ? kf_gguf_tensor_find(w->gguf, name) : NULL;
	const kf_st_tensor *s = w->gguf ? NULL : kf_safetensors_find(w->st, name);
	int expert = kf_arch_place(&w->arch, i).expert;
	uint64_t want = w->gguf && expert >= 0 && strstr(name, "_exps.") ? (uint64_t)w->arch.experts : 1, have = g ? g->stack : 1;
	kf_err e;

	if (!g && !s) {
		if (want == 1 || expert == 0) kf_listing_add(missing, "%s", name);
		return;
	}
	if (s && kf_safetensors_check(w->st, s, &e) != KF_OK) {
		kf_listing_add(wrong, "%s", e.text);
		return;
	}
	*out = g ? (kf_tensor){ .dtype = g->dtype, .rows = g->rows, .cols = g->cols, .n_dims = g->rows == 1 ? 1 : 2, .data = g->data }
		: s->t;
	if (have == want && out->rows == rows && out->cols == cols && out->n_dims == (rows == 1 ? 1 : 2)) {
		if (want > 1) out->data += g->size / want * (uint64_t)expert;
	} else if (have == 1 && want == 1) {
		kf_listing_add(wrong, "%s (%" PRIu64 " x %" PRIu64 ", not %" PRIu64 " x %" PRIu64 ")", name, out->rows, out->cols, rows, cols);
	} else if (expert <= 0) {
		kf_listing_add(wrong, "%s (%" PRIu64 " x %" PRIu64 " x %" PRIu64 ", not %" PRIu64 " x %" PRIu64 " x %" PRIu64 ")", name,
			have, out->rows, out->cols, want, rows, cols);
	}
}

/* GGUF's llama, which Mistral and Mixtral are there too, rotates neighbours, Hugging Face halves: its q and k rows
 * are stored in another order. */
static int rope_heads(const kf_weights *w, kf_part part)
{
	kf_family f = w->arch.family;

	if (!w->gguf || (f != KF_FAMILY_LLAMA && f != KF_FAMILY_MISTRAL && f != KF_FAMILY_MIXTRAL)) return 0;
	if (part == KF_P_Q || part == KF_P_QB) return w->arch.H;
	return part == KF_P_K || part == KF_P_KB ? w->arch.G : 0;
}

/* A folder's order of the rows of a fused projection is kept; GGUF has queries, keys and values apart. */
static int qkv_heads(const kf_weights *w, kf_part part)
{
	return w->gguf && w->arch.qkv == KF_QKV_GROUPED && (part == KF_P_QKV || part == KF_P_QKVB) ? w->arch.H : 0;
}

static kf_status collect(kf_weights *w, kf_listing *missing, kf_listing *wrong, kf_err *err)
{
	char name[128], source[128];
	uint64_t rows, cols;
	int n = kf_arch_tensor(&w->arch, -1, name, &rows, &cols);

	w->tensor = KF_ARENA_NEW(&w->arena, kf_tensor, (size_t)n);
	w->by_name = KF_ARENA_NEW(&w->arena, struct named, (size_t)n);
	if (!w->tensor || !w->by_name)
		return kf_fail(err, KF_ENOMEM, "%s: no memory for its table of tensors", w->path);
	for (int i = 0; i < n; i++) {
		kf_tensor *t = &w->tensor[i];
		kf_part part = kf_arch_place(&w->arch, i).part;
		char *copy;

		*t = (kf_tensor){ 0 };
		kf_arch_tensor(&w->arch, i, name, &rows, &cols);
		source_name(w, i, source);
		source_find(w, i, source, rows, cols, t, missing, wrong);
		if (!(copy = kf_arena_strdup(&w->arena, name, strlen(name))))
			return kf_fail(err, KF_ENOMEM, "%s: no memory for its table of tensors", w->path);
		t->name = copy;
		t->rope_heads = rope_heads(w, part);
		t->qkv_heads = qkv_heads(w, part);
		/* Hugging Face keeps Gemma's norm weights minus 1; GGUF as they are used. */
		t->add = !w->gguf && w->arch.norm_plus_one && ends_with(name, "norm.weight") ? 1 : 0;
		w->by_name[i] = (struct named){ copy, i };
		w->n++;
	}
	qsort(w->by_name, (size_t)w->n, sizeof *w->by_name, by_name);
	return KF_OK;
}

/* A tensor that the architecture as we understand it does not use: harmless, or a sign that the model
 * is not what its configuration says. */
static bool harmless(const kf_weights *w, const char *name)
{
	static const char *const stems[] = { "model.", "lm_head.", "gpt_neox.", "embed_out.", "transformer.", "output." };

	if (w->gguf) return !strcmp(name, "rope_freqs.weight"); /* read by kf_arch_from_gguf */
	if (ends_with(name, ".rotary_emb.inv_freq")) return true; /* old checkpoints; always recomputed */
	if (w->arch.family == KF_FAMILY_GPT_NEOX && /* the causal mask, as a table */
		(ends_with(name, ".attention.bias") || ends_with(name, ".attention.masked_bias")))
		return true;
	if (!strcmp(name, "lm_head.weight") || !strcmp(name, "embed_out.weight")) return w->arch.tied;
	for (size_t i = 0; i < sizeof stems / sizeof *stems; i++)
		if (!strncmp(name, stems[i], strlen(stems[i]))) return false;
	return true; /* other heads, on top of the model */
}

static kf_status find_extra(const kf_weights *w, kf_listing *extra, kf_err *err)
{
	int n = w->gguf ? kf_gguf_tensors(w->gguf) : kf_safetensors_count(w->st);
	char (*names)[128] = kf_alloc((size_t)w->n, sizeof *names);
	struct named *sorted = kf_alloc((size_t)w->n, sizeof *sorted);
	kf_status rc = KF_OK;

	if (!names || !sorted) {
		rc = kf_fail(err, KF_ENOMEM, "%s: no memory for its table of tensors", w->path);
		goto out;
	}
	for (int i = 0; i < w->n; i++) {
		source_name(w, i, names[i]);
		sorted[i] = (struct named){ names[i], i };
	}
	qsort(sorted, (size_t)w->n, sizeof *sorted, by_name);
	for (int i = 0; i < n; i++) {
		const char *name =
			w->gguf ? kf_gguf_tensor_at(w->gguf, i)->name : kf_safetensors_at(w->st, i)->t.name;
		struct named key = { name, 0 };
		if (!bsearch(&key, sorted, (size_t)w->n, sizeof key, by_name) && !harmless(w, name)) kf_listing_add(extra, "%s", name);
	}
out:
	kf_free(names);
	kf_free(sorted);
	return rc;
}

/* The architecture's tensors are there, of their shapes, and no others. */
static kf_status find_tensors(kf_weights *w, kf_err *err)
{
	kf_listing missing = { 0 }, wrong = { 0 }, extra = { 0 };
	kf_buf b = { 0 };
	kf_status rc;

	w->experts_apart = w->gguf && experts_apart(w->gguf);
	if ((rc = collect(w, &missing, &wrong, err)) != KF_OK || (rc = find_extra(w, &extra, err)) != KF_OK) goto out;
	kf_listing_put(&missing, &b, "it lacks", "tensor");
	kf_listing_put(&wrong, &b, "it cannot use", "tensor");
	kf_listing_put(&extra, &b, "it has no use for", "tensor");
	if (!b.len && !b.failed) {
		/* what is not there was complained of: nobody computes with a matrix of no rows */
		for (int i = 0; i < w->n; i++) assert(w->tensor[i].data && w->tensor[i].rows && w->tensor[i].cols);
		goto out;
	}
	kf_buf_put(&b, "", 1);
	if ((rc = kf_buf_check(&b, err)) != KF_OK) goto out;
	rc = kf_fail(err, missing.n || wrong.n ? KF_EDATA : KF_EUNSUPPORTED,
		"%s: its tensors are not those of a %s model as configured: %s; either the model is of a kind that is not "
		"supported, or its files do not belong together",
		w->path, kf_family_name(w->arch.family), (const char *)b.data);
out:
	kf_listing_release(&missing);
	kf_listing_release(&wrong);
	kf_listing_release(&extra);
	kf_buf_release(&b);
	return rc;
}

/* ---- a head that is there beside the embedding it is tied to ---- */

#define COMPARED (64u << 20) /* bytes between two drops */

/* Two matrices of one type and shape. Of equal ones everything is read, and nothing is kept in memory. */
static bool same_bytes(const kf_tensor *a, const kf_tensor *b)
{
	const size_t row = kf_dtype_row_bytes(a->dtype, a->cols);
	const uint64_t step = row < COMPARED ? COMPARED / row : 1;
	kf_tensor x = *a, y = *b;
	bool same = true;

	if (a->data == b->data) return true; /* PyTorch's files share them */
	for (uint64_t at = 0; at < a->rows && same; at += step) {
		x.data = a->data + at * row;
		y.data = b->data + at * row;
		x.rows = y.rows = a->rows - at < step ? a->rows - at : step;
		same = memcmp(x.data, y.data, x.rows * row) == 0;
		kf_weights_drop(&x);
		kf_weights_drop(&y);
	}
	return same;
}

/* Many a folder of a tied model has its embedding again as the head. One that differs transformers 5 uses and 4 does not. */
static kf_status check_tied(const kf_weights *w, kf_err *err)
{
	const kf_tensor *embed = &w->tensor[0];
	kf_arch untied = w->arch;
	const kf_st_tensor *head;
	char name[128];
	uint64_t rows, cols;

	if (w->gguf || !w->arch.tied) return KF_OK;
	untied.tied = false;
	kf_arch_tensor(&untied, w->n, name, &rows, &cols); /* the head is the last */
	if (!(head = kf_safetensors_find(w->st, name)) || (head->readable && head->t.dtype == embed->dtype && head->t.rows == embed->rows &&
		head->t.cols == embed->cols && same_bytes(&head->t, embed)))
		return KF_OK;
	return kf_fail(err, KF_EUNSUPPORTED,
		"%s: its %s differs from %s, to which its configuration ties it (\"tie_word_embeddings\"); transformers 5 uses it nevertheless, "
		"transformers 4 does not. To use it set \"tie_word_embeddings\" to false in config.json, to do without remove it from %s.",
		w->path, name, embed->name, kf_safetensors_path(w->st, head->file));
}

/* ---- open ---- */

static bool folder_has(const char *dir, const char *tail)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	bool found = false;

	while (d && !found && (e = readdir(d))) found = ends_with(e->d_name, tail);
	if (d) closedir(d);
	return found;
}

static kf_status read_json(const char *path, json_t **out, kf_err *err)
{
	kf_buf text = { 0 };
	json_error_t je;
	kf_status rc = kf_file_read(path, MAX_CONFIG, &text, err);

	if (rc == KF_OK && !(*out = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &je)))
		rc = kf_fail(err, KF_EDATA, "%s is no good JSON: %s (line %d)", path, je.text, je.line);
	kf_buf_release(&text);
	return rc;
}

static kf_status read_config(kf_weights *w, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc;

	if ((rc = kf_path_join(path, w->path, "config.json", err)) != KF_OK) return rc;
	if (!kf_exists(path)) {
		if (folder_has(w->path, ".gguf"))
			return kf_fail(err, KF_ENOTFOUND,
				"%s: has no config.json; to use a GGUF file in it, name the file itself", w->path);
		return kf_fail(err, KF_ENOTFOUND,
			"%s: has no config.json; a model is a Hugging Face folder (config.json, "
			"*.safetensors or pytorch_model*.bin, tokenizer) or a GGUF file",
			w->path);
	}
	if ((rc = read_json(path, &w->config, err)) != KF_OK) return rc;
	if ((rc = kf_arch_from_config(w->config, &w->arch, err)) != KF_OK) return kf_context(err, rc, "%s", w->path);
	if ((rc = kf_path_join(path, w->path, "generation_config.json", err)) != KF_OK) return rc;
	return kf_exists(path) ? read_json(path, &w->generation, err) : KF_OK;
}

static kf_status open_folder(kf_weights *w, kf_err *err)
{
	kf_status rc;

	if ((rc = read_config(w, err)) != KF_OK) return rc;
	return kf_safetensors_open_dir(w->path, &w->st, err);
}

static kf_status open_file(kf_weights *w, kf_err *err)
{
	kf_status rc;

	if (ends_with(w->path, ".safetensors"))
		return kf_fail(err, KF_EINVAL,
			"%s: a safetensors file alone is no model; name its folder, which has config.json too", w->path);
	if ((rc = kf_gguf_open(w->path, &w->gguf, err)) != KF_OK) return rc;
	return kf_arch_from_gguf(w->gguf, &w->arch, err);
}

/* The tokenizer may have fewer ids than there are rows (padding), never more. */
static kf_status check_vocab(const kf_weights *w, kf_err *err)
{
	const kf_gguf_entry *e = w->gguf ? kf_gguf_find(w->gguf, "tokenizer.ggml.tokens") : NULL;

	if (e && e->type == KF_GGUF_ARRAY && e->n > (uint64_t)w->arch.V)
		return kf_fail(err, KF_EMISMATCH,
			"%s: its tokenizer has %" PRIu64 " tokens, but its embedding has only %d rows", w->path, e->n,
			w->arch.V);
	return KF_OK;
}

kf_status kf_weights_open(const char *path, kf_weights **out, kf_err *err)
{
	kf_weights *w;
	kf_status rc;

	*out = NULL;
	if (!kf_exists(path))
		return kf_fail(
			err, KF_ENOTFOUND, "%s: no such model; it must be a Hugging Face folder or a GGUF file", path);
	w = kf_zalloc(1, sizeof *w);
	if (!w || !(w->path = kf_strdup(path))) {
		kf_free(w);
		return kf_fail(err, KF_ENOMEM, "%s: no memory to open it", path);
	}
	kf_arena_init(&w->arena);
	if ((rc = kf_is_dir(path) ? open_folder(w, err) : open_file(w, err)) != KF_OK) goto fail;
	if ((rc = find_tensors(w, err)) != KF_OK || (rc = check_tied(w, err)) != KF_OK || (rc = check_vocab(w, err)) != KF_OK)
		goto fail;
	*out = w;
	return KF_OK;

fail:
	kf_weights_close(w);
	return rc;
}

void kf_weights_close(kf_weights *w)
{
	if (!w) return;
	kf_gguf_close(w->gguf);
	kf_safetensors_close(w->st);
	kf_arena_release(&w->arena);
	json_decref(w->config);
	json_decref(w->generation);
	kf_free(w->path);
	kf_free(w);
}

/* ---- fingerprint ---- */

static void put_rope(kf_buf *b, const kf_rope *r)
{
	kf_buf_u32(b, (uint32_t)r->kind);
	kf_buf_f32(b, r->base);
	kf_buf_f32(b, r->factor);
	kf_buf_f32(b, r->low_freq);
	kf_buf_f32(b, r->high_freq);
	kf_buf_f32(b, r->original_context);
}

/* All of the descriptor that decides what is computed; bos and eos do not. */
static void put_arch(kf_buf *b, const kf_arch *a)
{
	const int32_t ints[] = { (int32_t)a->family, a->L, a->C, a->H, a->G, a->D, a->F, a->V, a->context,
		a->post_norms, a->qk_norm, a->qkv_bias, a->o_bias, a->mlp_bias, a->tied, (int32_t)a->act, a->window };

	for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) kf_buf_u32(b, (uint32_t)ints[i]);
	kf_buf_f32(b, a->norm_eps);
	kf_buf_f32(b, a->embed_scale);
	kf_buf_f32(b, a->attn_scale);
	put_rope(b, &a->rope);
	put_rope(b, &a->rope_local);
	kf_buf_put(b, a->windowed, (size_t)a->L);
	/* What came later is put only where it says something, so that older models keep their fingerprints. */
	if (a->family > KF_FAMILY_GEMMA3 || a->rope.kind > KF_ROPE_LLAMA3) {
		const int32_t more[] = { a->R, a->layer_norm, a->norm_bias, a->parallel, a->plain_mlp, (int32_t)a->qkv, a->experts,
			a->experts_used };
		for (size_t i = 0; i < sizeof more / sizeof *more; i++) kf_buf_u32(b, (uint32_t)more[i]);
		kf_buf_f32(b, a->attn_cap);
		kf_buf_f32(b, a->logit_cap);
		kf_buf_f32(b, a->alibi);
		kf_buf_f32(b, a->rope.scale);
		kf_buf_u32(b, a->rope.truncate);
		for (int i = 0; i < a->R / 2 && a->rope.kind == KF_ROPE_LONGROPE; i++) {
			kf_buf_f32(b, a->rope.shorter[i]);
			kf_buf_f32(b, a->rope.longer[i]);
		}
	} else if (a->attn_cap > 0 || a->logit_cap > 0) {
		kf_buf_f32(b, a->attn_cap);
		kf_buf_f32(b, a->logit_cap);
	}
}

kf_status kf_weights_fp(kf_weights *w, kf_fp *out, kf_err *err)
{
	kf_hasher *h = kf_hasher_new();
	kf_buf b = { 0 };
	kf_status rc;

	if (!h) return kf_fail(err, KF_ENOMEM, "%s: no memory for its fingerprint", w->path);
	put_arch(&b, &w->arch);
	if ((rc = kf_buf_check(&b, err)) != KF_OK) goto out;
	kf_hasher_add(h, b.data, b.len);
	for (int i = 0; i < w->n; i++) {
		const kf_tensor *t = &w->tensor[i];
		if ((rc = kf_stop_check(err)) != KF_OK) goto out;
		kf_buf_clear(&b);
		kf_buf_str(&b, t->name);
		kf_buf_u32(&b, (uint32_t)t->dtype);
		kf_buf_u64(&b, t->rows);
		kf_buf_u64(&b, t->cols);
		kf_buf_u32(&b, (uint32_t)t->rope_heads);
		kf_buf_f32(&b, t->add);
		if (t->qkv_heads) kf_buf_u32(&b, (uint32_t)t->qkv_heads);
		if ((rc = kf_buf_check(&b, err)) != KF_OK) goto out;
		kf_hasher_add(h, b.data, b.len);
		kf_hasher_add(h, t->data, kf_dtype_row_bytes(t->dtype, t->cols) * t->rows);
		kf_weights_drop(t);
	}
	*out = kf_hasher_fp(h);
out:
	kf_hasher_free(h);
	kf_buf_release(&b);
	return rc;
}
