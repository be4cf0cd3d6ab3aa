#include "join/join.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/progress.h"
#include "common/base/stop.h"
#include "common/store/manifest.h"

#define TIMES_MAX ((size_t)16 << 20)

typedef struct {
	char *dir;
	json_t *manifest;
	bool whole;                /* a complete set: its manifest tells checksums */
} part;

typedef struct {
	const kf_join_opts *o;
	kf_join_stats *stats;
	part *part;                /* (n) */
	int n, cap, n_shards;
	int *from;                 /* (n_shards) the part that has the shard; -1: none */
	kf_fp identity;
	kf_set_input input[KF_MAX_INPUTS];
	kf_buf tokenizer;
	kf_set_spec spec;
} job;

/* ---- what the parts are ---- */

static bool same_folder(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Its manifest, of a whole set or of half a one; *path is "" when there is neither. */
static kf_status manifest_of(const char *dir, char path[KF_PATH_MAX], bool *whole, kf_err *err)
{
	kf_status rc = kf_path_join(path, dir, MANIFEST, err);

	if (rc != KF_OK || (*whole = kf_exists(path))) return rc;
	if ((rc = kf_path_join(path, dir, MANIFEST_PART, err)) == KF_OK && !kf_exists(path)) path[0] = 0;
	return rc;
}

static kf_status add_part(job *j, const char *dir, const char *manifest, bool whole, kf_err *err)
{
	char diff[KF_MANIFEST_DIFF];
	part *p;
	kf_status rc;

	for (int k = 0; k < j->n; k++)
		if (same_folder(dir, j->part[k].dir))
			return kf_fail(err, KF_EINVAL, "%s and %s are one folder: a part is given once", j->part[k].dir, dir);
	if (j->n == j->cap) {
		int cap = j->cap ? 2 * j->cap : 16;

		if (!(p = kf_zalloc((size_t)cap, sizeof *p))) return kf_fail(err, KF_ENOMEM, "no memory for %d parts", cap);
		if (j->n) memcpy(p, j->part, (size_t)j->n * sizeof *p);
		kf_free(j->part);
		j->part = p;
		j->cap = cap;
	}
	p = &j->part[j->n];
	p->whole = whole;
	if (!(p->dir = kf_strdup(dir))) return kf_fail(err, KF_ENOMEM, "no memory for the name of a part");
	j->n++;
	if ((rc = kf_manifest_load(manifest, &p->manifest, err)) != KF_OK) return rc;
	kf_manifest_diff(j->part[0].manifest, p->manifest, diff);
	if (!diff[0]) return KF_OK;
	return kf_fail(err, KF_EMISMATCH, "%s (there) and %s (here) are parts of different sets: %s", j->part[0].dir, dir, diff);
}

static int is_name(const struct dirent *e)
{
	return strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
}

/* A part, or (not nested) a folder of parts, by their names. */
static kf_status load(job *j, const char *dir, bool nested, kf_err *err)
{
	char manifest[KF_PATH_MAX], path[KF_PATH_MAX];
	struct dirent **name = NULL;
	bool whole;
	kf_status rc;
	int n;

	if (!kf_is_dir(dir)) return kf_fail(err, nested ? KF_EINVAL : KF_ENOTFOUND, nested ? "%s is no part of a set" : "%s: no such folder", dir);
	if (same_folder(dir, j->o->out)) return KF_OK;
	if ((rc = manifest_of(dir, manifest, &whole, err)) != KF_OK) return rc;
	if (manifest[0]) return add_part(j, dir, manifest, whole, err);
	if (nested) return kf_fail(err, KF_EINVAL, "%s is no part of a set: it has no manifest", dir);
	if ((n = scandir(dir, &name, is_name, alphasort)) < 0) return kf_fail_errno(err, "cannot list folder %s", dir);
	if (n == 0) rc = kf_fail(err, KF_ENOTFOUND, "%s is empty: no part of a set", dir);
	for (int i = 0; i < n; i++) {
		if (rc == KF_OK && (rc = kf_path_join(path, dir, name[i]->d_name, err)) == KF_OK) rc = load(j, path, true, err);
		free(name[i]);
	}
	free(name);
	return rc;
}

static kf_status load_parts(job *j, kf_err *err)
{
	kf_status rc;

	for (int i = 0; i < j->o->n_parts; i++)
		if ((rc = load(j, j->o->part[i], false, err)) != KF_OK) return rc;
	if (!j->n) return kf_fail(err, KF_EINVAL, "no part but %s itself", j->o->out);
	j->n_shards = kf_manifest_shards(j->part[0].manifest);
	return KF_OK;
}

/* ---- which part has which shard ---- */

/* List numbers with from[s] < 0 in out, "3, 7-9". */
static void list_missing(const job *j, char *out, size_t size)
{
	size_t len = 0;

	out[0] = 0;
	for (int s = 0, end; s < j->n_shards; s = end) {
		end = s + 1;
		if (j->from[s] != -1) continue;
		while (end < j->n_shards && j->from[end] == -1) end++;
		if (len + 40 > size) {
			snprintf(out + len, size - len, ", ...");
			return;
		}
		len += (size_t)snprintf(out + len, size - len, end > s + 1 ? "%s%d-%d" : "%s%d", len ? ", " : "", s, end - 1);
	}
}

/* Whether what OUT holds is another set, which goes (--replace), and its shards are no help. */
static kf_status is_taken_away(const job *j, bool *goes, kf_err *err)
{
	char path[KF_PATH_MAX], diff[KF_MANIFEST_DIFF];
	json_t *there;
	bool whole;
	kf_status rc;

	*goes = false;
	if (!j->o->replace) return KF_OK;
	if ((rc = manifest_of(j->o->out, path, &whole, err)) != KF_OK || !path[0]) return rc;
	if ((rc = kf_manifest_load(path, &there, err)) != KF_OK) return rc;
	kf_manifest_diff(there, j->part[0].manifest, diff);
	*goes = diff[0];
	json_decref(there);
	return KF_OK;
}

/* A shard in OUT of an earlier run. */
static bool is_there(const job *j, int s)
{
	char path[KF_PATH_MAX];
	kf_shard_facts f;

	return kf_shard_path(path, j->o->out, s, NULL) == KF_OK && kf_exists(path) &&
		(!j->o->replace || (kf_shard_facts_of(path, false, &f, NULL) == KF_OK && kf_facts_are(&f, j->identity, s, j->n_shards)));
}

static kf_status find_shards(job *j, kf_err *err)
{
	char path[KF_PATH_MAX], missing[256];
	const int there = j->n;    /* of an earlier run, in OUT */
	bool any = false, goes;
	kf_status rc;

	if ((rc = is_taken_away(j, &goes, err)) != KF_OK) return rc;
	if (!(j->from = kf_alloc((size_t)j->n_shards, sizeof *j->from))) return kf_fail(err, KF_ENOMEM, "no memory for %d shards", j->n_shards);
	for (int s = 0; s < j->n_shards; s++) {
		j->from[s] = -1;
		for (int i = 0; i < j->n; i++) {
			if ((rc = kf_shard_path(path, j->part[i].dir, s, err)) != KF_OK) return rc;
			if (!kf_exists(path)) continue;
			if (j->from[s] >= 0)
				return kf_fail(err, KF_EMISMATCH, "shard %d is in two parts, %s and %s: leave one of them out, or remove the shard there", s,
					j->part[j->from[s]].dir, j->part[i].dir);
			j->from[s] = i;
		}
		if (j->from[s] < 0 && !goes && is_there(j, s)) j->from[s] = there;
		any = any || j->from[s] < 0;
	}
	if (!any) return KF_OK;
	list_missing(j, missing, sizeof missing);
	return kf_fail(err, KF_ENOTFOUND, "no part has shard %s of %d: %s --shard makes them", missing, j->n_shards,
		json_string_value(json_object_get(j->part[0].manifest, "program")));
}

/* ---- the set they make ---- */

/* What the stage was told, from the first part's manifest. */
static kf_status describe(job *j, kf_err *err)
{
	const part *p = &j->part[0];
	const json_t *m = p->manifest, *tokenizer = json_object_get(m, "tokenizer"), *inputs = json_object_get(m, "inputs");
	kf_fp fp = { 0, 0 };
	uint64_t disk;
	kf_status rc;

	j->spec = (kf_set_spec){
		.dir = j->o->out, .kind = kf_manifest_kind(m), .program = json_string_value(json_object_get(m, "program")),
		.options = json_object_get(m, "options"), .info = json_object_get(m, "info"), .inputs = j->input,
		.n_inputs = (int)json_array_size(inputs), .n_shards = j->n_shards,
		.f32 = strcmp(json_string_value(json_object_get(m, "precision")), "f32") == 0,
		.chat = json_integer_value(json_object_get(m, "format")) > 1, .replace = j->o->replace
	};
	/* extraction has no statistics; what the others have to say of the whole, they say when they are run on it */
	j->spec.joined = j->spec.kind != KF_SET_LOGITS;
	j->stats->unfinished = j->spec.joined;
	snprintf(j->stats->program, sizeof j->stats->program, "%s", j->spec.program);
	if (j->spec.n_inputs > KF_MAX_INPUTS) return kf_fail(err, KF_EDATA, "%s: its manifest has %d inputs", p->dir, j->spec.n_inputs);
	for (int i = 0; i < j->spec.n_inputs; i++) {
		const json_t *in = json_array_get(inputs, (size_t)i);

		j->input[i].role = json_string_value(json_object_get(in, "role"));
		j->input[i].name = json_string_value(json_object_get(in, "name"));
		if (!kf_fp_parse(json_string_value(json_object_get(in, "fingerprint")), &j->input[i].fp))
			return kf_fail(err, KF_EDATA, "%s: an input's fingerprint is damaged", p->dir);
	}
	if (tokenizer) {
		if ((rc = kf_manifest_tokenizer(tokenizer, p->dir, &j->tokenizer, &disk, err)) != KF_OK) return rc;
		j->spec.tokenizer = j->tokenizer.data;
		j->spec.tokenizer_size = j->tokenizer.len;
	}
	if (j->spec.tokenizer) fp = kf_fp_of(j->spec.tokenizer, j->spec.tokenizer_size);
	j->identity = kf_manifest_identity(&j->spec, fp);
	if (!kf_fp_parse(json_string_value(json_object_get(m, "identity")), &fp) || !kf_fp_equal(fp, j->identity))
		return kf_fail(err, KF_EDATA, "%s: its manifest is damaged: its identity is not that of what it says it is made from", p->dir);
	return KF_OK;
}

/* ---- shards ---- */

/* Is the file what its part says? Every block is looked at, and the whole where there is a checksum. */
static kf_status check_shard(const job *j, int s, const char *path, kf_shard_facts *f, kf_err *err)
{
	const part *p = &j->part[j->from[s]];
	kf_shard_facts want;
	kf_fp fp;
	kf_status rc;

	if ((rc = kf_shard_facts_of(path, true, f, err)) != KF_OK) return rc;
	if (!kf_facts_are(f, j->identity, s, j->n_shards))
		return kf_fail(err, KF_EMISMATCH, "%s is of another set than the manifest beside it, or another of its shards", path);
	if (!p->whole) return KF_OK;
	if ((rc = kf_context(err, kf_manifest_facts(p->manifest, s, &want, err), "%s", p->dir)) != KF_OK) return rc;
	if ((rc = kf_fp_file(path, &fp, err)) != KF_OK) return rc;
	if (f->disk == want.disk && f->content == want.content && kf_fp_equal(fp, want.checksum)) return KF_OK;
	return kf_fail(err, KF_EDATA, "%s: its checksum is not the manifest's", path);
}

/* What an earlier run took must be this, and not the like of it from another machine. */
static kf_status check_taken(const job *j, int s, const char *path, const kf_shard_facts *f, kf_err *err)
{
	char taken[KF_PATH_MAX];
	kf_shard_facts have;
	kf_status rc;

	if ((rc = kf_shard_path(taken, j->o->out, s, err)) != KF_OK || (rc = kf_shard_facts_of(taken, false, &have, err)) != KF_OK) return rc;
	if (have.docs == f->docs && have.content == f->content) return KF_OK;
	return kf_fail(err, KF_EMISMATCH, "%s and %s are one shard with different content: remove one of them", taken, path);
}

static kf_status take(job *j, kf_set_writer *w, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_progress bar;
	kf_status rc = KF_OK;

	kf_progress_start(&bar, "join", "shards", j->n_shards, j->o->progress);
	for (int s = 0; s < j->n_shards && rc == KF_OK; s++) {
		kf_shard_facts f;
		bool linked;

		if ((rc = kf_stop_check(err)) != KF_OK) break;
		if (j->from[s] == j->n) {
			if (!kf_set_shard_done(w, s))
				rc = kf_fail(err, KF_EDATA, "%s: shard %d is damaged or of another set, and no part has it", j->o->out, s);
		} else {
			if ((rc = kf_shard_path(path, j->part[j->from[s]].dir, s, err)) != KF_OK || (rc = check_shard(j, s, path, &f, err)) != KF_OK)
				break;
			if (kf_set_shard_done(w, s)) {
				rc = check_taken(j, s, path, &f, err);
			} else if ((rc = kf_set_take_shard(w, s, path, !j->o->copy, &linked, err)) == KF_OK) {
				j->stats->linked += linked;
				j->stats->copied += !linked;
			}
		}
		kf_progress_add(&bar, 1);
	}
	kf_progress_end(&bar);
	return rc;
}

/* Whether OUT has shards that none of the others has: it is a part, too. */
static bool is_part(const job *j)
{
	for (int s = 0; s < j->n_shards; s++)
		if (j->from[s] == j->n) return true;
	return false;
}

static void add_times(const char *dir, kf_buf *all)
{
	char path[KF_PATH_MAX];
	kf_buf one = { 0 };

	if (kf_path_join(path, dir, TIMES, NULL) == KF_OK && kf_file_read(path, TIMES_MAX, &one, NULL) == KF_OK) kf_buf_put(all, one.data, one.len);
	kf_buf_release(&one);
}

/* How long the parts took stays known: for people, and no reason to fail. */
static void join_times(const job *j)
{
	char path[KF_PATH_MAX];
	kf_buf all = { 0 };
	size_t own, n;

	if (is_part(j)) add_times(j->o->out, &all);
	own = all.len;
	for (int i = 0; i < j->n; i++) add_times(j->part[i].dir, &all);
	n = all.len - own;
	/* an earlier run may have got as far as this */
	if (n && kf_buf_check(&all, NULL) == KF_OK && (own < n || memcmp(all.data + own - n, all.data + own, n) != 0) &&
	    kf_path_join(path, j->o->out, TIMES, NULL) == KF_OK)
		(void)!kf_file_write_atomic(path, all.data, all.len, NULL);
	kf_buf_release(&all);
}

kf_status kf_join(const kf_join_opts *o, kf_join_stats *stats, kf_err *err)
{
	job j = { .o = o, .stats = stats };
	kf_set_writer *w = NULL;
	bool complete;
	kf_status rc;

	*stats = (kf_join_stats){ .state = KF_SET_NEW };
	if ((rc = load_parts(&j, err)) != KF_OK || (rc = describe(&j, err)) != KF_OK || (rc = find_shards(&j, err)) != KF_OK) goto out;
	stats->shards = j.n_shards;
	if ((rc = kf_set_begin(&j.spec, &w, &stats->state, err)) != KF_OK || stats->state == KF_SET_CURRENT) goto out;
	if ((rc = take(&j, w, err)) != KF_OK) goto out;
	join_times(&j);
	rc = kf_set_commit(w, NULL, &complete, err);
	w = NULL;
	if (rc == KF_OK && !complete) rc = kf_fail(err, KF_EIO, "%s: a shard went away while others were taken; join again", o->out);
out:
	kf_set_abandon(w);
	kf_buf_release(&j.tokenizer);
	for (int i = 0; i < j.n; i++) {
		kf_free(j.part[i].dir);
		json_decref(j.part[i].manifest);
	}
	kf_free(j.part);
	kf_free(j.from);
	return rc;
}
