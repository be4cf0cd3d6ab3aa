#include "common/store/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/opt.h"
#include "common/base/record.h"

#define MANIFEST_MAX ((size_t)256 << 20)
#define TOKENIZER_MAX ((uint64_t)1 << 30)
#define FACTS_MAX ((size_t)1 << 20)   /* of a shard, with its sums, */
#define FACTS_KEPT ((size_t)1 << 18)  /* which are left out above this: they are read whenever the shard is opened */

static const char *const kinds[KF_SET_KINDS] = { "corpus", "logits", "aligned", "targets" };

const char *kf_set_kind_name(kf_set_kind kind)
{
	return kind < KF_SET_KINDS ? kinds[kind] : "set";
}

uint64_t kf_json_u64(const json_t *o, const char *name)
{
	json_int_t v = json_integer_value(json_object_get(o, name));

	return v < 0 ? 0 : (uint64_t)v;
}

kf_status kf_shard_path(char *out, const char *dir, int shard, kf_err *err)
{
	char name[32];

	snprintf(name, sizeof name, "shard-%05d.mdb", shard);
	return kf_path_join(out, dir, name, err);
}

/* ---- fingerprints in JSON ---- */

static json_t *json_fp(kf_fp fp)
{
	char hex[KF_FP_HEX];

	kf_fp_hex(fp, hex);
	return json_string(hex);
}

static bool get_fp(const json_t *o, const char *name, kf_fp *out)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && strlen(s) == KF_FP_HEX - 1 && kf_fp_parse(s, out);
}

static json_t *json_hash(uint64_t v)
{
	char hex[17];

	snprintf(hex, sizeof hex, "%016llx", (unsigned long long)v);
	return json_string(hex);
}

static bool get_hash(const json_t *o, const char *name, uint64_t *out)
{
	const char *s = json_string_value(json_object_get(o, name));
	char padded[KF_FP_HEX];
	kf_fp fp;

	if (!s || strlen(s) != 16) return false;
	snprintf(padded, sizeof padded, "%.16s%.16s", s, s);
	if (!kf_fp_parse(padded, &fp)) return false;
	*out = fp.lo;
	return true;
}

/* ---- a seal: the fingerprint of everything else in an object, so that a changed bit shows ---- */

static char *unsealed(const json_t *o)
{
	json_t *rest = json_copy((json_t *)(uintptr_t)o);
	char *text;

	json_object_del(rest, "seal");
	text = kf_record_canonical(rest);
	json_decref(rest);
	return text;
}

static void seal(json_t *o)
{
	char *text = unsealed(o);

	if (text) json_object_set_new(o, "seal", json_fp(kf_fp_of(text, strlen(text))));
	free(text);
}

/* What has none was written before there were seals. */
static bool seal_holds(const json_t *o)
{
	const json_t *s = json_object_get(o, "seal");
	char *text = s ? unsealed(o) : NULL, hex[KF_FP_HEX] = "";

	if (text) kf_fp_hex(kf_fp_of(text, strlen(text)), hex);
	free(text);
	return !s || (json_is_string(s) && strcmp(json_string_value(s), hex) == 0);
}

/* ---- facts ---- */

static json_t *facts_json(const kf_shard_facts *f)
{
	json_t *o = json_object();

	json_object_set_new(o, "docs", json_integer((json_int_t)f->docs));
	json_object_set_new(o, "tokens", json_integer((json_int_t)f->tokens));
	json_object_set_new(o, "bytes", json_integer((json_int_t)f->bytes));
	json_object_set_new(o, "content", json_hash(f->content));
	return o;
}

static bool facts_from(const json_t *o, kf_shard_facts *f)
{
	if (!json_is_integer(json_object_get(o, "docs")) || !json_is_integer(json_object_get(o, "tokens")) ||
	    !json_is_integer(json_object_get(o, "bytes")) || !get_hash(o, "content", &f->content))
		return false;
	f->docs = kf_json_u64(o, "docs");
	f->tokens = kf_json_u64(o, "tokens");
	f->bytes = kf_json_u64(o, "bytes");
	return true;
}

static char *facts_text(const kf_shard_facts *f, json_t *sums)
{
	json_t *o = facts_json(f);
	char *text;

	json_object_set_new(o, "identity", json_fp(f->identity));
	if (f->of) json_object_update_new(o, json_pack("{s:i, s:i}", "shard", f->shard, "of", f->of));
	if (sums) json_object_set(o, "sums", sums);
	seal(o);
	text = kf_record_canonical(o);
	json_decref(o);
	return text;
}

kf_status kf_facts_encode(const kf_shard_facts *f, json_t *sums, kf_buf *out, kf_err *err)
{
	char *text = facts_text(f, sums);

	if (text && sums && strlen(text) >= FACTS_KEPT) {
		free(text);
		text = facts_text(f, NULL);
	}
	if (!text) return kf_fail(err, KF_ENOMEM, "no memory for a shard's facts");
	kf_buf_put(out, text, strlen(text));
	free(text);
	return kf_buf_check(out, err);
}

kf_status kf_facts_decode(const void *data, size_t n, kf_shard_facts *f, json_t **sums, kf_err *err)
{
	json_t *o = n < FACTS_MAX ? json_loadb(data, n, 0, NULL) : NULL;
	bool ok;

	memset(f, 0, sizeof *f);
	ok = o && seal_holds(o) && facts_from(o, f) && get_fp(o, "identity", &f->identity);
	f->shard = (int)json_integer_value(json_object_get(o, "shard"));
	f->of = (int)json_integer_value(json_object_get(o, "of"));
	*sums = ok ? json_incref(json_object_get(o, "sums")) : NULL;
	json_decref(o);
	return ok ? KF_OK : kf_fail(err, KF_EDATA, "has damaged facts");
}

bool kf_facts_are(const kf_shard_facts *f, kf_fp identity, int shard, int of)
{
	return kf_fp_equal(f->identity, identity) && (!f->of || (f->shard == shard && f->of == of));
}

kf_status kf_manifest_facts(const json_t *m, int shard, kf_shard_facts *f, kf_err *err)
{
	const json_t *o = json_array_get(json_object_get(m, "shards"), (size_t)shard);

	memset(f, 0, sizeof *f);
	if (!o || !facts_from(o, f) || !json_is_integer(json_object_get(o, "disk")) || !get_fp(o, "checksum", &f->checksum) ||
	    !get_fp(m, "identity", &f->identity))
		return kf_fail(err, KF_EDATA, "does not tell the facts of shard %d", shard);
	f->disk = kf_json_u64(o, "disk");
	return KF_OK;
}

kf_status kf_manifest_add_facts(json_t *m, const kf_shard_facts *facts, int n, kf_err *err)
{
	kf_shard_facts all = { 0 };
	json_t *list = json_array(), *o;

	for (int i = 0; i < n; i++) {
		o = facts_json(&facts[i]);
		json_object_set_new(o, "disk", json_integer((json_int_t)facts[i].disk));
		json_object_set_new(o, "checksum", json_fp(facts[i].checksum));
		json_array_append_new(list, o);
		all.docs += facts[i].docs;
		all.tokens += facts[i].tokens;
		all.bytes += facts[i].bytes;
		all.content += facts[i].content;
	}
	o = facts_json(&all);
	json_object_update(m, o);
	json_decref(o);
	if (json_object_set_new(m, "shards", list)) return kf_fail(err, KF_ENOMEM, "no memory for the manifest");
	return KF_OK;
}

/* ---- identity ---- */

static json_t *options_of(const kf_set_spec *spec)
{
	return spec->options ? json_deep_copy(spec->options) : json_object();
}

kf_fp kf_manifest_identity(const kf_set_spec *spec, kf_fp tokenizer)
{
	json_t *o = json_object(), *options = options_of(spec), *inputs = json_array();
	char *text;
	kf_fp fp = { 0, 0 };

	json_object_set_new(o, "format", json_integer(spec->chat ? 2 : 1));
	json_object_set_new(o, "kind", json_string(kf_set_kind_name(spec->kind)));
	json_object_set_new(o, "precision", json_string(spec->f32 ? "f32" : "packed"));
	json_object_set_new(o, "options", options);
	for (int i = 0; i < spec->n_inputs; i++) {
		json_t *in = json_array();

		json_array_append_new(in, json_string(spec->inputs[i].role));
		json_array_append_new(in, json_fp(spec->inputs[i].fp));
		json_array_append_new(inputs, in);
	}
	json_object_set_new(o, "inputs", inputs);
	if (spec->tokenizer) json_object_set_new(o, "tokenizer", json_fp(tokenizer));
	if ((text = kf_record_canonical(o))) fp = kf_fp_of(text, strlen(text));
	free(text);
	json_decref(o);
	return fp;
}

json_t *kf_manifest_new(const kf_set_spec *spec, kf_fp tokenizer)
{
	json_t *m = json_object(), *inputs = json_array();

	json_object_set_new(m, "kfuse", json_string("shard set"));
	json_object_set_new(m, "format", json_integer(spec->chat ? 2 : 1));
	json_object_set_new(m, "kind", json_string(kf_set_kind_name(spec->kind)));
	json_object_set_new(m, "identity", json_fp(kf_manifest_identity(spec, tokenizer)));
	json_object_set_new(m, "program", json_string(spec->program));
	json_object_set_new(m, "version", json_string(KF_VERSION));
	json_object_set_new(m, "precision", json_string(spec->f32 ? "f32" : "packed"));
	json_object_set_new(m, "options", options_of(spec));
	for (int i = 0; i < spec->n_inputs; i++) {
		const kf_set_input *in = &spec->inputs[i];

		json_array_append_new(inputs, json_pack("{s:s, s:o, s:o}", "role", in->role,
			"name", kf_record_path(in->name ? in->name : ""), "fingerprint", json_fp(in->fp)));
	}
	json_object_set_new(m, "inputs", inputs);
	if (spec->tokenizer)
		json_object_set_new(m, "tokenizer", json_pack("{s:s, s:I, s:o}", "file", TOKENIZER,
			"bytes", (json_int_t)spec->tokenizer_size, "fingerprint", json_fp(tokenizer)));
	if (spec->info) json_object_set(m, "info", spec->info);
	if (spec->joined) json_object_set_new(m, "joined", json_true());
	if (json_object_set_new(m, "n_shards", json_integer(spec->n_shards))) {
		json_decref(m);
		return NULL;
	}
	return m;
}

/* ---- comparing ---- */

/* A bounded list of differences, for an error message; full: there were more. */
struct diff { char *text; size_t len; bool full; };

static void differ(struct diff *d, const char *what, const char *there, const char *here)
{
	static const char more[] = "; and more";
	const size_t room = KF_MANIFEST_DIFF - d->len - (sizeof more - 1);
	int n;

	if (d->full) return;
	n = snprintf(d->text + d->len, room, "%s%s: %.100s there, %.100s here", d->len ? "; " : "", what, there, here);
	d->full = n < 0 || (size_t)n >= room;
	if (d->full) memcpy(d->text + d->len, more, sizeof more);
	else d->len += (size_t)n;
}

static char *show(const json_t *v)
{
	return v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15)) : NULL;
}

static void compare(struct diff *d, const char *what, const json_t *there, const json_t *here)
{
	char *a, *b;

	if (there == here || (there && here && json_equal(there, here))) return;
	a = show(there);
	b = show(here);
	differ(d, what, a ? a : "not given", b ? b : "not given");
	free(a);
	free(b);
}

static void compare_options(struct diff *d, const json_t *there, const json_t *here)
{
	const char *name;
	json_t *v;
	char what[128];

	json_object_foreach((json_t *)(uintptr_t)here, name, v) {
		snprintf(what, sizeof what, "option --%.100s", name);
		compare(d, what, json_object_get(there, name), v);
	}
	json_object_foreach((json_t *)(uintptr_t)there, name, v) {
		if (json_object_get(here, name)) continue;
		snprintf(what, sizeof what, "option --%.100s", name);
		compare(d, what, v, NULL);
	}
}

static void compare_inputs(struct diff *d, const json_t *there, const json_t *here)
{
	size_t n = json_array_size(there), m = json_array_size(here);
	char what[128];

	for (size_t i = 0; i < n || i < m; i++) {
		const json_t *a = json_array_get(there, i), *b = json_array_get(here, i);
		const char *role = json_string_value(json_object_get(b ? b : a, "role"));
		const char *an = json_string_value(json_object_get(a, "name")), *bn = json_string_value(json_object_get(b, "name"));

		if (a && b && json_equal(json_object_get(a, "role"), json_object_get(b, "role")) &&
		    json_equal(json_object_get(a, "fingerprint"), json_object_get(b, "fingerprint")))
			continue;
		snprintf(what, sizeof what, "input %.100s differs", role ? role : "?");
		if (an && bn && strcmp(an, bn) == 0) differ(d, what, "other content", "new content of the same name");
		else differ(d, what, an ? an : "none", bn ? bn : "none");
	}
}

void kf_manifest_diff(const json_t *there, const json_t *here, char out[KF_MANIFEST_DIFF])
{
	struct diff d = { .text = out };
	static const char *const plain[] = { "kind", "format", "precision" };

	out[0] = 0;
	for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
		compare(&d, plain[i], json_object_get(there, plain[i]), json_object_get(here, plain[i]));
	if (!json_equal(json_object_get(there, "kind"), json_object_get(here, "kind"))) return;   /* of sets of two kinds everything else differs, too */
	compare_options(&d, json_object_get(there, "options"), json_object_get(here, "options"));
	compare_inputs(&d, json_object_get(there, "inputs"), json_object_get(here, "inputs"));
	if (!d.len)
		compare(&d, "tokenizer", json_object_get(json_object_get(there, "tokenizer"), "fingerprint"),
			json_object_get(json_object_get(here, "tokenizer"), "fingerprint"));
	compare(&d, "number of shards", json_object_get(there, "n_shards"), json_object_get(here, "n_shards"));
	if (!d.len) compare(&d, "identity", json_object_get(there, "identity"), json_object_get(here, "identity"));
}

bool kf_manifest_same_maker(const json_t *there, const json_t *here)
{
	return json_equal(json_object_get(there, "program"), json_object_get(here, "program")) &&
		kf_manifest_kind(there) == kf_manifest_kind(here);
}

kf_status kf_manifest_same(const json_t *there, const json_t *here, const char *dir, kf_err *err)
{
	char text[KF_MANIFEST_DIFF];

	kf_manifest_diff(there, here, text);
	if (!text[0]) return KF_OK;
	if (!kf_manifest_same_maker(there, here))
		return kf_fail(err, KF_EMISMATCH, "%s holds a set that %.40s made (%s); remove it or choose another --out", dir,
			json_string_value(json_object_get(there, "program")), text);
	return kf_fail(err, KF_EMISMATCH, "%s holds a set made from something else (%s); choose another --out, or give --replace (make: REPLACE=1) to have it "
		"made anew", dir, text);
}

/* ---- the tokenizer ---- */

kf_status kf_manifest_tokenizer(const json_t *tokenizer, const char *dir, kf_buf *out, uint64_t *disk, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_buf packed = { 0 };
	uint64_t n = kf_json_u64(tokenizer, "bytes");
	kf_fp want = { 0, 0 };
	size_t got;
	kf_status rc;

	if ((rc = kf_path_join(path, dir, TOKENIZER, err)) != KF_OK) return rc;
	if ((rc = kf_file_read(path, TOKENIZER_MAX, &packed, err)) != KF_OK) goto out;
	rc = kf_fail(err, KF_EDATA, "%s: damaged", path);
	/* zstd packs at most about 1 : 30000 */
	if (n > TOKENIZER_MAX || n / 65536 > packed.len) goto out;
	if (!kf_buf_reserve(out, n + 1)) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to read %s", path);
		goto out;
	}
	got = ZSTD_decompress(out->data, n, packed.data, packed.len);
	if (ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation) rc = kf_fail(err, KF_ENOMEM, "no memory to read %s", path);
	if (ZSTD_isError(got) || got != n) goto out;
	out->data[n] = 0;
	out->len = n;
	if (!kf_fp_parse(json_string_value(json_object_get(tokenizer, "fingerprint")), &want) || !kf_fp_equal(want, kf_fp_of(out->data, n)))
		goto out;
	*disk = packed.len;
	rc = KF_OK;
out:
	kf_buf_release(&packed);
	return rc;
}

/* ---- files ---- */

int kf_manifest_shards(const json_t *m)
{
	return (int)json_integer_value(json_object_get(m, "n_shards"));
}

kf_set_kind kf_manifest_kind(const json_t *m)
{
	const char *s = json_string_value(json_object_get(m, "kind"));
	int k = 0;

	while (k < KF_SET_KINDS && (!s || strcmp(s, kinds[k]))) k++;
	return (kf_set_kind)k;
}

kf_status kf_manifest_load(const char *path, json_t **out, kf_err *err)
{
	kf_buf buf = { 0 };
	json_error_t je;
	json_t *m = NULL, *in;
	const char *s;
	json_int_t v;
	size_t i;
	kf_fp fp;
	kf_status rc;

	*out = NULL;
	if ((rc = kf_file_read(path, MANIFEST_MAX, &buf, err)) != KF_OK) goto out;
	if (!(m = json_loadb((const char *)buf.data, buf.len, JSON_REJECT_DUPLICATES, &je))) {
		rc = kf_fail(err, KF_EDATA, "%s: not JSON: %s (line %d)", path, je.text, je.line);
		goto out;
	}
	v = json_integer_value(json_object_get(m, "format"));
	if (!json_object_get(m, "kfuse") || v <= 0) {
		rc = kf_fail(err, KF_EDATA, "%s: not the manifest of a shard set", path);
		goto out;
	}
	if (!seal_holds(m)) {
		rc = kf_fail(err, KF_EDATA, "%s: damaged: its seal does not hold", path);
		goto out;
	}
	if (v > KF_SET_FORMAT) {
		rc = kf_fail(err, KF_EUNSUPPORTED, "%s: made by a newer version of kfuse (format %lld; this program reads up to %d)", path,
			(long long)v, KF_SET_FORMAT);
		goto out;
	}
	rc = kf_fail(err, KF_EDATA, "%s: damaged: a field is missing or of the wrong type", path);
	if (kf_manifest_kind(m) == KF_SET_KINDS) {
		s = json_string_value(json_object_get(m, "kind"));
		rc = kf_fail(err, KF_EUNSUPPORTED, "%s: a set of kind \"%.50s\", which this program does not know", path, s ? s : "");
		goto out;
	}
	v = json_integer_value(json_object_get(m, "n_shards"));
	if (v < 1 || v > KF_MAX_SHARDS || !get_fp(m, "identity", &fp) || !json_is_object(json_object_get(m, "options")) ||
	    !json_is_array(json_object_get(m, "inputs")) || !(s = json_string_value(json_object_get(m, "precision"))) ||
	    !json_is_string(json_object_get(m, "program")))
		goto out;
	if (strcmp(s, "packed") && strcmp(s, "f32")) {
		rc = kf_fail(err, KF_EUNSUPPORTED, "%s: numbers of precision \"%.50s\", which this program does not know", path, s);
		goto out;
	}
	json_array_foreach(json_object_get(m, "inputs"), i, in)
		if (!json_is_string(json_object_get(in, "role")) || !json_is_string(json_object_get(in, "name")) ||
		    !get_fp(in, "fingerprint", &fp))
			goto out;
	if ((in = json_object_get(m, "tokenizer")) && (!json_is_string(json_object_get(in, "file")) ||
	    !json_is_integer(json_object_get(in, "bytes")) || !get_fp(in, "fingerprint", &fp)))
		goto out;
	*out = m;
	m = NULL;
	rc = KF_OK;
out:
	json_decref(m);
	kf_buf_release(&buf);
	return rc;
}

kf_status kf_manifest_write(const char *path, json_t *m, kf_err *err)
{
	char *text;
	kf_buf buf = { 0 };
	kf_status rc;

	seal(m);
	if (!(text = json_dumps(m, JSON_INDENT(1)))) return kf_fail(err, KF_ENOMEM, "no memory to write %s", path);
	kf_buf_put(&buf, text, strlen(text));
	kf_buf_u8(&buf, '\n');
	free(text);
	if ((rc = kf_buf_check(&buf, err)) == KF_OK) rc = kf_file_write_atomic(path, buf.data, buf.len, err);
	kf_buf_release(&buf);
	return rc;
}

bool kf_manifest_files(const json_t *manifest, const char *dir)
{
	char path[KF_PATH_MAX];
	struct stat st;
	kf_shard_facts f;

	for (int i = 0; i < kf_manifest_shards(manifest); i++) {
		if (kf_shard_path(path, dir, i, NULL) != KF_OK || kf_manifest_facts(manifest, i, &f, NULL) != KF_OK) return false;
		if (stat(path, &st) < 0 || (uint64_t)st.st_size != f.disk) return false;
	}
	if (!json_object_get(manifest, "tokenizer")) return true;
	return kf_path_join(path, dir, TOKENIZER, NULL) == KF_OK && kf_exists(path);
}
