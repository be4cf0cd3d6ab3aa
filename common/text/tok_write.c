/* Tokenizers as Hugging Face folders: what transformers' AutoTokenizer loads and encodes the same with. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/text/internal.h"

/* ---- JSON, written by hand: a tree of 262,144 pieces and twice as many merges would take half a gigabyte ---- */

static void put(kf_buf *b, const char *s) { kf_buf_put(b, s, strlen(s)); }

static void put_string(kf_buf *b, const char *s, size_t n)
{
	put(b, "\"");
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)s[i];
		char esc[8];
		if (c == '"' || c == '\\') {
			kf_buf_put(b, (char[]){ '\\', (char)c }, 2);
		} else if (c < 0x20 || c == 0x7f) {
			snprintf(esc, sizeof esc, "\\u%04x", c);
			put(b, esc);
		} else {
			kf_buf_u8(b, c);
		}
	}
	put(b, "\"");
}

static void put_piece(kf_buf *b, const kf_tokenizer *t, int32_t id)
{
	const char *s = kf_tokenizer_piece(t, id);
	put_string(b, s, strlen(s));
}

static void put_num(kf_buf *b, int64_t v)
{
	char s[24];
	snprintf(s, sizeof s, "%lld", (long long)v);
	put(b, s);
}

static void put_json(kf_buf *b, json_t *j)
{
	char *s = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	if (s)
		put(b, s);
	else
		b->failed = true;
	free(s);
	json_decref(j);
}

/* ---- parts --------------------------------------------------------------------------- */

/* With a dummy prefix, text gets its ▁ piece by piece between the added tokens: a user-defined run of them would never be
 * found there, and is left to the merges, unless a tokenizer.json had it so. */
static bool is_added(const kf_tokenizer *t, int32_t id)
{
	if (t->type[id] == KF_TT_USER && t->kind == KF_TOK_SENTENCEPIECE && !(t->flags[id] & KF_AT_RAW) && t->sp.dummy_prefix && !t->sp.ranked
		&& strstr(kf_tokenizer_piece(t, id), "\xe2\x96\x81"))
		return false;
	return t->type[id] == KF_TT_CONTROL || t->type[id] == KF_TT_USER || t->type[id] == KF_TT_UNKNOWN;
}

/* "content": ..., "special": ...: of an added token. A user-defined piece of a SentencePiece model is looked for where spaces are ▁
 * already, as the model does; beside a dummy prefix that would find it after one only, which is right where a tokenizer.json said so. */
static void put_added(kf_buf *b, const kf_tokenizer *t, int32_t id)
{
	static const struct { const char *name; uint8_t flag; } names[] = {
		{ "single_word", KF_AT_SINGLE_WORD }, { "lstrip", KF_AT_LSTRIP }, { "rstrip", KF_AT_RSTRIP }
	};
	bool normalized = t->kind == KF_TOK_SENTENCEPIECE && t->type[id] == KF_TT_USER && !(t->flags[id] & KF_AT_RAW)
		&& (!t->sp.dummy_prefix || t->sp.ranked);

	put(b, "\"content\":");
	put_piece(b, t, id);
	for (int i = 0; i < 3; i++) {
		put(b, ",\"");
		put(b, names[i].name);
		put(b, t->flags[id] & names[i].flag ? "\":true" : "\":false");
	}
	put(b, normalized ? ",\"normalized\":true" : ",\"normalized\":false");
	put(b, t->type[id] == KF_TT_USER ? ",\"special\":false" : ",\"special\":true");
}

static void put_template(kf_buf *b, const kf_tokenizer *t)
{
	int32_t around[2] = { t->add_bos ? t->bos : -1, t->add_eos ? t->eos : -1 };

	if (around[0] < 0 && around[1] < 0) {
		put(b, "null");
		return;
	}
	json_t *single = json_array(), *pair = json_array(), *ids = json_object();
	for (int half = 0; half < 2; half++) {
		for (int i = 0; i < 3; i++) {
			json_t *e;
			if (i == 1) {
				e = json_pack("{s:{s:s,s:i}}", "Sequence", "id", half ? "B" : "A", "type_id", half);
			} else {
				int32_t id = around[i / 2];
				if (id < 0)
					continue;
				const char *p = kf_tokenizer_piece(t, id);
				e = json_pack("{s:{s:s,s:i}}", "SpecialToken", "id", p, "type_id", half);
				json_object_set_new(ids, p, json_pack("{s:s,s:[i],s:[s]}", "id", p, "ids", (int)id, "tokens", p));
			}
			if (!half)
				json_array_append(single, e);
			json_array_append_new(pair, e);
		}
	}
	put_json(b, json_pack("{s:s,s:o,s:o,s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
		"special_tokens", ids));
}

/* The pairs of pieces whose union is a piece, as merges: SentencePiece takes the highest score first. */
typedef struct { float score; int32_t left, right, len; } merge;

static int by_score(const void *pa, const void *pb)
{
	const merge *a = pa, *b = pb;
	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	if (a->len != b->len)
		return a->len > b->len ? -1 : 1;
	if (a->left != b->left)
		return a->left < b->left ? -1 : 1;
	return a->right < b->right ? -1 : a->right > b->right;
}

static int32_t mergeable(const kf_tokenizer *t, const uint8_t *p, size_t n)
{
	int32_t lo, hi;
	kf_tokenizer_range(t, p, n, &lo, &hi);
	for (; lo < hi && t->byte_len[t->sorted[lo]] == n; lo++)
		if (t->type[t->sorted[lo]] == KF_TT_NORMAL || (t->type[t->sorted[lo]] == KF_TT_USER && !is_added(t, t->sorted[lo])))
			return t->sorted[lo];
	return -1;
}

static void put_sp_merges(kf_buf *b, const kf_tokenizer *t)
{
	size_t n = 0, cap = 1024;
	merge *m = malloc(cap * sizeof *m);

	for (int32_t i = 0; m && i < t->n; i++) {
		const uint8_t *p = t->byte_pool + t->byte_off[i];
		uint32_t len = t->byte_len[i];
		if (t->type[i] != KF_TT_NORMAL && (t->type[i] != KF_TT_USER || is_added(t, i)))
			continue;
		for (uint32_t k = kf_utf8_len(p, len); k < len; k += kf_utf8_len(p + k, len - k)) {
			int32_t l = mergeable(t, p, k), r = l < 0 ? -1 : mergeable(t, p + k, len - k);
			if (r < 0)
				continue;
			if (n == cap) {
				merge *more = realloc(m, (cap *= 2) * sizeof *m);
				if (!more)
					free(m);
				if (!(m = more))
					break;
			}
			m[n++] = (merge){ t->sp.score[i], l, r, (int32_t)k };
		}
	}
	if (!m) {
		b->failed = true;
		return;
	}
	qsort(m, n, sizeof *m, by_score);
	for (size_t i = 0; i < n; i++) {
		put(b, i ? ",\n[" : "\n[");
		put_piece(b, t, m[i].left);
		put(b, ",");
		put_piece(b, t, m[i].right);
		put(b, "]");
	}
	free(m);
}

/* ---- files --------------------------------------------------------------------------------- */

static kf_status write_file(const char *dir, const char *name, kf_buf *b, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc = kf_buf_check(b, err);

	if (rc == KF_OK && (rc = kf_path_join(path, dir, name, err)) == KF_OK)
		rc = kf_file_write_atomic(path, b->data, b->len, err);
	return rc;
}

/* Whether the dummy prefix depends on the text, as transformers' of models that are not "legacy" does. */
static bool metaspace(const kf_tokenizer *t) { return t->sp.prefix_unless_space || t->sp.prefix_first; }

static kf_status write_json(const kf_tokenizer *t, const char *dir, kf_buf *b, kf_err *err)
{
	bool bpe = t->kind == KF_TOK_BPE, comma = false;
	int32_t unk = bpe ? t->bpe.unk : t->unk;

	kf_buf_clear(b);
	put(b, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
	for (int32_t i = 0; i < t->n; i++) {
		if (!is_added(t, i))
			continue;
		put(b, comma ? ",\n{\"id\":" : "\n{\"id\":");
		put_num(b, i);
		put(b, ",");
		put_added(b, t, i);
		put(b, "}");
		comma = true;
	}
	put(b, "],\n\"normalizer\":");
	if (bpe)
		put(b, t->bpe.nfc ? "{\"type\":\"NFC\"}" : "null");
	else if (metaspace(t))
		put(b, "null");
	else if (t->sp.dummy_prefix)
		put(b, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},"
			"{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}");
	else
		put(b, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}");
	put(b, ",\n\"pre_tokenizer\":");
	if (bpe)
		put_json(b, kf_pretok_to_json(&t->bpe.pretok));
	else if (metaspace(t))
		put_json(b, json_pack("{s:s,s:s,s:s,s:b}", "type", "Metaspace", "replacement", "\xe2\x96\x81", "prepend_scheme",
			t->sp.prefix_first ? "first" : "always", "split", 0));
	else
		put(b, "null");
	put(b, ",\n\"post_processor\":");
	put_template(b, t);
	put(b, ",\n\"decoder\":");
	if (bpe)
		put(b, "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}");
	else
		put(b, "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},"
			"\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}");
	if (!bpe)
		put(b, t->sp.dummy_prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}" : "]}");
	put(b, ",\n\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
	if (unk >= 0)
		put_piece(b, t, unk);
	else
		put(b, "null");
	put(b, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":");
	put(b, (bpe ? t->bpe.fuse_unk : true) ? "true" : "false");
	put(b, !bpe && t->sp.byte_fallback ? ",\"byte_fallback\":true" : ",\"byte_fallback\":false");
	put(b, bpe && t->bpe.ignore_merges ? ",\"ignore_merges\":true" : ",\"ignore_merges\":false");
	put(b, ",\n\"vocab\":{");
	comma = false;
	for (int32_t i = 0; i < t->n; i++) {
		if (bpe && t->type[i] == KF_TT_UNUSED)
			continue; /* rows that only fill the matrix up */
		put(b, comma ? ",\n" : "\n");
		put_piece(b, t, i);
		put(b, ":");
		put_num(b, i);
		comma = true;
	}
	put(b, "},\n\"merges\":[");
	if (!bpe && !t->sp.ranked)
		put_sp_merges(b, t);
	for (int32_t i = 0; i < t->merges.n; i++) {
		put(b, i ? ",\n[" : "\n[");
		put_piece(b, t, t->merges.left[i]);
		put(b, ",");
		put_piece(b, t, t->merges.right[i]);
		put(b, "]");
	}
	put(b, "]}}\n");
	return write_file(dir, "tokenizer.json", b, err);
}

static const struct { const char *key; size_t at; } named[] = {
	{ "bos_token", offsetof(kf_tokenizer, bos) }, { "eos_token", offsetof(kf_tokenizer, eos) },
	{ "pad_token", offsetof(kf_tokenizer, pad) }, { "unk_token", offsetof(kf_tokenizer, unk) }
};

static const char *class_of(const kf_tokenizer *t)
{
	bool bpe = t->kind == KF_TOK_BPE;
	/* Llama's and Gemma's classes add BOS by their own settings, so these must be said. */
	const char *class = t->hf_class ? t->hf_class : bpe ? "PreTrainedTokenizerFast"
		: t->sp.dummy_prefix ? "LlamaTokenizer" : "GemmaTokenizer";

	/* transformers 5 lets the class of GPT-2 put its own steps in the place of tokenizer.json's */
	if (bpe && !strncmp(class, "GPT2Tokenizer", 13) && t->bpe.pretok.n > 1) return "PreTrainedTokenizerFast";
	/* its code came with the model, and does what Llama's does */
	return strcmp(class, "InternLM2Tokenizer") && strcmp(class, "InternLM2TokenizerFast") ? class : "LlamaTokenizer";
}

/* Whether token i of named is one of the tokenizer's, as transformers has it: where its files do not name it, if it is added to texts, or a
 * template of ours asks for it, or the class is another, without the names that the model's has. */
static bool is_named(const kf_tokenizer *t, int i)
{
	int unnamed = class_of(t) == t->hf_class ? t->unnamed : 0;

	if (!((unnamed | t->none) >> i & 1) || (i == 0 && t->add_bos) || (i == 1 && t->add_eos))
		return true;
	return t->other_template && strstr(t->chat_template, named[i].key);
}

/* nulls: say of which there is none, as classes of transformers have names of their own. */
static void put_named(kf_buf *b, const kf_tokenizer *t, bool comma, bool nulls)
{
	for (int i = 0; i < 4; i++) {
		int32_t id = *(const int32_t *)(const void *)((const char *)t + named[i].at);
		bool is = id >= 0 && is_named(t, i);
		if (!is && !(nulls && t->none >> i & 1))
			continue;
		put(b, comma ? ",\n\"" : "\n\"");
		put(b, named[i].key);
		put(b, "\":");
		if (is)
			put_piece(b, t, id);
		else
			put(b, "null");
		comma = true;
	}
}

/* What says how transformers is to use the tokenizer (padding_side, model_max_length) is carried over, but not what write_config says
 * itself, what names files and code that are not in the folder written, nor what would add tokens. */
static bool carried(const char *key, const json_t *v)
{
	static const char *const others[] = { "add_bos_token", "add_eos_token", "add_prefix_space", "legacy", "clean_up_tokenization_spaces",
		"tokenizer_class", "chat_template", "name_or_path", "processor_class", "backend", "is_local", "from_slow", "fix_mistral_regex",
		"transformers_version" };
	size_t n = strlen(key);

	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (strcmp(key, others[i]) == 0)
			return false;
	if (n > 5 && strcmp(key + n - 5, "_file") == 0)
		return false;
	if (n > 6 && strcmp(key + n - 6, "_token") == 0)
		return json_is_boolean(v);
	return strcmp(key, "model_input_names") == 0 || (!json_is_object(v) && !json_is_array(v));
}

json_t *kf_tokenizer_settings(const json_t *config)
{
	json_t *out = json_object(), *v;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)config, key, v) {
		if (out && carried(key, v) && json_object_set(out, key, v) < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

static void put_settings(kf_buf *b, const json_t *settings)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)settings, key, v) {
		double x = json_number_value(v);

		put(b, ",\n");
		put_string(b, key, strlen(key));
		put(b, ":");
		/* read as reals, since "no limit" is above any integer */
		if (json_is_number(v) && x == floor(x))
			kf_buf_printf(b, "%.0f", x);
		else
			put_json(b, json_incref(v));
	}
}

static kf_status write_config(const kf_tokenizer *t, const char *dir, kf_buf *b, kf_err *err)
{
	bool bpe = t->kind == KF_TOK_BPE, comma = false;
	const char *class = class_of(t);

	kf_buf_clear(b);
	put(b, t->add_bos ? "{\"add_bos_token\":true" : "{\"add_bos_token\":false");
	put(b, t->add_eos ? ",\n\"add_eos_token\":true" : ",\n\"add_eos_token\":false");
	if (bpe)
		put(b, t->bpe.pretok.prefix_space ? ",\n\"add_prefix_space\":true" : ",\n\"add_prefix_space\":false");
	else
		put(b, metaspace(t) ? ",\n\"legacy\":false" : ",\n\"legacy\":true");
	put(b, ",\n\"clean_up_tokenization_spaces\":false,\n\"tokenizer_class\":");
	put_string(b, class, strlen(class));
	put_named(b, t, true, true);
	if (t->chat_templates) {
		put(b, ",\n\"chat_template\":");
		put_json(b, json_incref(t->chat_templates));
	} else if (t->chat_template) {
		put(b, ",\n\"chat_template\":");
		put_string(b, t->chat_template, strlen(t->chat_template));
	}
	put_settings(b, t->settings);
	put(b, ",\n\"added_tokens_decoder\":{");
	for (int32_t i = 0; i < t->n; i++) {
		if (!is_added(t, i))
			continue;
		put(b, comma ? ",\n\"" : "\n\"");
		put_num(b, i);
		put(b, "\":{");
		put_added(b, t, i);
		put(b, "}");
		comma = true;
	}
	put(b, "}}\n");
	return write_file(dir, "tokenizer_config.json", b, err);
}

kf_status kf_tokenizer_write_hf(const kf_tokenizer *t, const char *dir, kf_err *err)
{
	kf_buf b = { 0 };
	kf_status rc = kf_mkdirs(dir, err);

	if (rc != KF_OK)
		return rc;
	/* SentencePiece has no dummy prefix that depends on what comes after it, and no list of merges. */
	if (t->kind == KF_TOK_SENTENCEPIECE && !t->sp.prefix_unless_space && !t->sp.ranked && (rc = kf_spm_serialise(t, false, &b, err)) == KF_OK)
		rc = write_file(dir, "tokenizer.model", &b, err);
	/* Of the other models transformers makes its own, from tokenizer.model. */
	if (rc == KF_OK && (t->kind == KF_TOK_BPE || t->sp.own))
		rc = write_json(t, dir, &b, err);
	if (rc == KF_OK)
		rc = write_config(t, dir, &b, err);
	if (rc == KF_OK) {
		kf_buf_clear(&b);
		put(&b, "{");
		put_named(&b, t, false, false);
		put(&b, "}\n");
		rc = write_file(dir, "special_tokens_map.json", &b, err);
	}
	kf_buf_release(&b);
	return rc;
}
