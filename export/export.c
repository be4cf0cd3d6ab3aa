#include "export/export.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/failure.h"
#include "common/base/lock.h"
#include "common/base/progress.h"
#include "common/store/json.h"
#include "common/text/tokenizer.h"

typedef struct {
	const kf_export_opts *o;
	kf_set *set;
	kf_set_kind kind;
	int32_t bos;               /* token to put in front; -1: none */
	kf_export_stats *stats;
	kf_failure failure;
	pthread_mutex_t lock;      /* of progress, and of stats */
	kf_progress progress;
} job;

/* ---- documents ---- */

static kf_status one(job *j, kf_shard *in, kf_arena *arena, FILE *out, uint64_t *tokens, kf_err *err)
{
	bool axolotl = j->o->format == KF_EXPORT_AXOLOTL, bos;
	kf_logits_rec l;
	kf_dist_rec d;
	uint64_t doc;
	kf_status rc;

	if (j->kind == KF_SET_LOGITS) {
		if ((rc = kf_shard_next_logits(in, arena, &l, err)) != KF_OK) return rc;
		bos = l.bos, doc = l.head.doc, *tokens = l.n;
	} else {
		if ((rc = kf_shard_next_dist(in, arena, &d, err)) != KF_OK) return rc;
		bos = d.bos, doc = d.head.doc, *tokens = d.n;
	}
	if (axolotl && bos && j->bos < 0)
		return kf_fail(err, KF_EDATA, "document %llu begins with a BOS, but the set has no tokenizer that adds one", (unsigned long long)doc);
	if (axolotl && j->kind == KF_SET_LOGITS) kf_axolotl_logits(out, &l, j->bos, j->o->renormalize);
	else if (axolotl) kf_axolotl_dist(out, &d, j->bos, j->o->renormalize);
	else if (j->kind == KF_SET_LOGITS) kf_json_logits(out, &l, KF_JSON_PATH | KF_JSON_FINITE);
	else kf_json_dist(out, &d, KF_JSON_FINITE);
	return KF_OK;
}

static kf_status shard_to(job *j, int s, FILE *out, kf_err *err)
{
	kf_shard *in = NULL;
	kf_arena arena;
	uint64_t tokens = 0;
	kf_status rc;

	kf_arena_init(&arena);
	if ((rc = kf_shard_open(j->set, s, &in, err)) == KF_OK) {
		/* a full disk or closed pipe shows in the stream: its owner tells of it */
		while (!ferror(out) && (rc = one(j, in, &arena, out, &tokens, err)) == KF_OK) {
			kf_arena_reset(&arena);
			pthread_mutex_lock(&j->lock);
			j->stats->documents++;
			j->stats->tokens += tokens;
			kf_progress_add(&j->progress, (double)tokens);
			pthread_mutex_unlock(&j->lock);
		}
		if (rc == KF_END) rc = KF_OK;
	}
	kf_shard_close(in);
	kf_arena_release(&arena);
	return rc;
}

/* ---- a folder ---- */

static kf_status part_path(const job *j, int s, char *out, kf_err *err)
{
	char name[32];

	snprintf(name, sizeof name, "part-%05d.jsonl", s);
	return kf_path_join(out, j->o->out, name, err);
}

static void one_file(void *arg, size_t shard, int worker)
{
	job *j = arg;
	int s = (int)shard;
	char path[KF_PATH_MAX];
	kf_outfile out = { .f = NULL };
	kf_err err;
	kf_status rc;

	(void)worker;
	if (s % j->o->parts != j->o->part || kf_failure_seen(&j->failure)) return;
	if ((rc = part_path(j, s, path, &err)) == KF_OK && (rc = kf_outfile_open(&out, path, &err)) == KF_OK &&
	    (rc = shard_to(j, s, out.f, &err)) == KF_OK)
		rc = kf_outfile_commit(&out, &err);
	kf_outfile_abandon(&out);
	if (rc != KF_OK) {
		kf_failure_note(&j->failure, s, rc, &err);
		return;
	}
	pthread_mutex_lock(&j->lock);
	j->stats->files++;
	pthread_mutex_unlock(&j->lock);
}

/* Files of an export with more shards would stay, and be taken for this one's. */
static kf_status no_others(const job *j, kf_err *err)
{
	DIR *dir = opendir(j->o->out);
	struct dirent *e;
	kf_status rc = KF_OK;

	if (!dir) return kf_fail_errno(err, "cannot open folder %s", j->o->out);
	while (rc == KF_OK && (errno = 0, e = readdir(dir))) {
		char *end;
		long n;

		if (strncmp(e->d_name, "part-", 5)) continue;
		n = strtol(e->d_name + 5, &end, 10);
		if (strcmp(end, ".jsonl") == 0 && n >= kf_set_shards(j->set))
			rc = kf_fail(err, KF_EINVAL, "%s has a file %s, which is of another export: %s has only %d shards; remove it or "
				"give another folder", j->o->out, e->d_name, j->o->set, kf_set_shards(j->set));
	}
	if (rc == KF_OK && errno) rc = kf_fail_errno(err, "cannot read folder %s", j->o->out);
	closedir(dir);
	return rc;
}

static kf_status to_folder(job *j, kf_pool *pool, kf_err *err)
{
	kf_part_lock lock = KF_PART_LOCK_NONE;
	kf_status rc;

	if ((rc = kf_mkdirs(j->o->out, err)) != KF_OK || (rc = no_others(j, err)) != KF_OK ||
	    (rc = kf_part_lock_take(&lock, j->o->out, j->o->part, j->o->parts, err)) != KF_OK)
		return rc;
	kf_pool_run(pool, (size_t)kf_set_shards(j->set), one_file, j);
	kf_part_lock_drop(&lock);
	if (j->failure.rc != KF_OK && err) *err = j->failure.err;
	return j->failure.rc;
}

/* ---- one file ---- */

static kf_status all_shards(job *j, FILE *out, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int s = 0; s < kf_set_shards(j->set) && rc == KF_OK && !ferror(out); s++) rc = shard_to(j, s, out, err);
	return rc;
}

static kf_status to_file(job *j, FILE *standard, kf_err *err)
{
	kf_outfile out = { .f = NULL };
	kf_status rc;

	if (j->o->parts > 1)
		return kf_fail(err, KF_EUSAGE, "--shard writes a part of the files of a folder: give --out a folder, not %s", j->o->out);
	if (strcmp(j->o->out, "-") == 0) {
		if ((rc = all_shards(j, standard, err)) == KF_OK) rc = kf_flush_piped(standard, "standard output", err);
	} else if ((rc = kf_outfile_open(&out, j->o->out, err)) == KF_OK && (rc = all_shards(j, out.f, err)) == KF_OK) {
		rc = kf_outfile_commit(&out, err);
	}
	kf_outfile_abandon(&out);
	if (rc == KF_OK) j->stats->files = 1;
	return rc;
}

static bool is_file(const char *out)
{
	size_t n = strlen(out);

	if (kf_is_dir(out)) return false;
	return strcmp(out, "-") == 0 || (n > 6 && strcmp(out + n - 6, ".jsonl") == 0) || kf_exists(out);
}

/* ---- the whole ---- */

static kf_status find_bos(job *j, kf_err *err)
{
	kf_tokenizer *t;
	const void *data;
	size_t n;
	kf_status rc;

	if ((rc = kf_set_tokenizer(j->set, &data, &n, err)) != KF_OK) return rc == KF_ENOTFOUND ? KF_OK : rc;
	if ((rc = kf_tokenizer_load(data, n, &t, err)) != KF_OK) return kf_context(err, rc, "%s: its tokenizer", j->o->set);
	j->bos = kf_tokenizer_bos(t);
	kf_tokenizer_free(t);
	return KF_OK;
}

kf_status kf_export(const kf_export_opts *o, kf_pool *pool, FILE *standard, kf_export_stats *stats, kf_err *err)
{
	job j = { .o = o, .bos = -1, .stats = stats, .failure = KF_FAILURE, .lock = PTHREAD_MUTEX_INITIALIZER };
	kf_status rc;

	*stats = (kf_export_stats){ 0 };
	if ((rc = kf_set_open(o->set, KF_SET_KINDS, &j.set, err)) != KF_OK) return rc;
	if ((rc = kf_set_whole(j.set, err)) != KF_OK) {
		kf_set_close(j.set);
		return rc;
	}
	j.kind = kf_set_get_kind(j.set);
	if (j.kind == KF_SET_CORPUS) {
		rc = kf_fail(err, KF_EINVAL, "%s is a corpus: kf-export is for logits, aligned and fused sets (kf-inspect --json shows "
			"a corpus)", o->set);
		goto out;
	}
	if (o->format == KF_EXPORT_AXOLOTL && (rc = find_bos(&j, err)) != KF_OK) goto out;
	kf_progress_start(&j.progress, "export", "tokens", (double)kf_set_tokens(j.set) / o->parts, o->progress);
	rc = is_file(o->out) ? to_file(&j, standard, err) : to_folder(&j, pool, err);
	kf_progress_end(&j.progress);
out:
	kf_set_close(j.set);
	return rc;
}
