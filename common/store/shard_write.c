/* Writing shards: blocks into an LMDB file under a temporary name, which gets its own name when whole. */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/stop.h"
#include "common/store/store.h"
#include "common/store/writer.h"

#define TXN_BYTES ((size_t)32 << 20)   /* a transaction holds its pages in memory: commit after so many */
#define MAP_START ((size_t)64 << 20)

struct shard_env {
	char path[KF_PATH_MAX], part[KF_PATH_MAX];
	int fd;                        /* of part, locked: tells a live writer from a dead one's remains */
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	size_t pending, stored, map;
	size_t page;
};

static kf_status mdb_fail(kf_err *err, int rc, const struct shard_env *e)
{
	static const char page[4096];
	struct stat st;

	if (rc == ENOMEM) return kf_fail(err, KF_ENOMEM, "no memory to write %s", e->part);
	/* LMDB calls a short write an input/output error: writing on tells whether it was the lack of space */
	if (rc == EIO && fstat(e->fd, &st) == 0)
		for (int i = 0; i < 64; i++)
			if (pwrite(e->fd, page, sizeof page, st.st_size + i * (off_t)sizeof page) < 0)
				return kf_fail_errno(err, "cannot write %s", e->part);
	return kf_fail(err, KF_EIO, "cannot write %s: %s", e->part, mdb_strerror(rc));
}

static void env_free(struct shard_env *e)
{
	if (!e) return;
	if (e->txn) mdb_txn_abort(e->txn);
	if (e->env) mdb_env_close(e->env);
	if (e->fd >= 0) close(e->fd);
	kf_free(e);
}

static kf_status env_begin(struct shard_env *e, kf_err *err)
{
	int rc = mdb_txn_begin(e->env, NULL, 0, &e->txn);

	if (rc == 0) rc = mdb_dbi_open(e->txn, NULL, 0, &e->dbi);
	e->pending = 0;
	return rc ? mdb_fail(err, rc, e) : KF_OK;
}

static kf_status env_commit(struct shard_env *e, kf_err *err)
{
	int rc = mdb_txn_commit(e->txn);

	e->txn = NULL;
	return rc ? mdb_fail(err, rc, e) : KF_OK;
}

static kf_status env_open(struct shard_env *e, kf_err *err)
{
	int rc = mdb_env_create(&e->env);
	MDB_stat st;
	kf_status status;

	e->map = MAP_START;
	if (rc == 0) rc = mdb_env_set_mapsize(e->env, e->map);
	/* no lock file: nobody reads the file before it has its name, and nobody writes it after. Synced once, at the end. */
	if (rc == 0) rc = mdb_env_open(e->env, e->part, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0666);
	if (rc) return mdb_fail(err, rc, e);
	if ((status = env_begin(e, err)) != KF_OK) return status;
	mdb_env_stat(e->env, &st);
	e->page = st.ms_psize;
	return KF_OK;
}

/* Keys ascend, so that pages fill up and the tree is built once (MDB_APPEND). The map grows before it would be full;
 * a transaction must be closed for that. */
static kf_status env_put(struct shard_env *e, const void *key, size_t key_size, const void *data, size_t size, kf_err *err)
{
	MDB_val k = { key_size, (void *)(uintptr_t)key }, v = { size, (void *)(uintptr_t)data };
	size_t need = (size / e->page + 2) * e->page;
	kf_status status;
	int rc;

	if (e->stored + need + e->map / 4 > e->map) {
		if ((status = env_commit(e, err)) != KF_OK) return status;
		while (e->stored + need + e->map / 4 > e->map) e->map *= 2;
		if ((rc = mdb_env_set_mapsize(e->env, e->map))) return mdb_fail(err, rc, e);
		if ((status = env_begin(e, err)) != KF_OK) return status;
	} else if (e->pending > TXN_BYTES) {
		if ((status = env_commit(e, err)) != KF_OK || (status = env_begin(e, err)) != KF_OK) return status;
	}
	if ((rc = mdb_put(e->txn, e->dbi, &k, &v, MDB_APPEND))) return mdb_fail(err, rc, e);
	e->pending += need;
	e->stored += need;
	return KF_OK;
}

kf_status kf_shard_begin(kf_set_writer *w, int shard, kf_shard_writer **out, kf_err *err)
{
	kf_shard_writer *sw = NULL;
	kf_status rc;

	*out = NULL;
	if (shard < 0 || shard >= kf_writer_shards(w))
		return kf_fail(err, KF_EINVAL, "there is no shard %d: the set has %d", shard, kf_writer_shards(w));
	if (!(sw = kf_zalloc(1, sizeof *sw)) || !(sw->env = kf_zalloc(1, sizeof *sw->env))) {
		kf_free(sw);
		return kf_fail(err, KF_ENOMEM, "no memory to write shard %d", shard);
	}
	sw->env->fd = -1;
	sw->set = w;
	sw->kind = kf_writer_kind(w);
	sw->f32 = kf_writer_f32(w);
	sw->chat = kf_writer_chat(w);
	sw->facts.identity = kf_writer_identity(w);
	sw->facts.of = kf_writer_shards(w);
	sw->shard = sw->facts.shard = shard;
	if ((rc = kf_shard_path(sw->env->path, kf_writer_dir(w), shard, err)) != KF_OK) goto fail;
	rc = kf_part_take(sw->env->part, sw->env->path, "process; wait for it, or give it another --shard", &sw->env->fd, err);
	if (rc != KF_OK || (rc = env_open(sw->env, err)) != KF_OK) goto fail;
	*out = sw;
	return KF_OK;
fail:
	env_free(sw->env);
	kf_free(sw);
	return rc;
}

static void writer_free(kf_shard_writer *sw)
{
	env_free(sw->env);
	if (sw->state) sw->codec->free_state(sw->state);
	kf_buf_release(&sw->value);
	json_decref(sw->sums);
	kf_free(sw);
}

void kf_shard_keep_sums(kf_shard_writer *sw, json_t *sums)
{
	json_decref(sw->sums);
	sw->sums = json_incref(sums);
}

kf_status kf_shard_put_begin(kf_shard_writer *sw, const kf_dochead *h, kf_err *err)
{
	kf_status rc = kf_stop_check(err);

	if (rc != KF_OK) return rc;
	if (h->doc >= KF_MAX_DOC)
		return kf_fail(err, KF_EINVAL, "document number %llu is too large", (unsigned long long)h->doc);
	if (sw->any && h->doc <= sw->last_doc)
		return kf_fail(err, KF_EINVAL, "document %llu after %llu: the documents of a shard come in ascending order",
			(unsigned long long)h->doc, (unsigned long long)sw->last_doc);
	if (!h->id || !h->domain) return kf_fail(err, KF_EINVAL, "document %llu has no id or domain string",
		(unsigned long long)h->doc);
	return KF_OK;
}

kf_status kf_shard_flush(kf_shard_writer *sw, kf_err *err)
{
	kf_block_head head = { 0 };
	uint8_t key[8];
	kf_status rc;

	if (!sw->open_block) return KF_OK;
	kf_buf_clear(&sw->value);
	kf_buf_fill(&sw->value, 0, KF_BLOCK_HEAD);
	if ((rc = sw->codec->flush(sw->state, sw->f32, &sw->value, &head.docs, err)) != KF_OK) return rc;
	if ((rc = kf_buf_check(&sw->value, err)) != KF_OK) return rc;
	if (sw->value.len > UINT32_MAX - 4096)
		return kf_fail(err, KF_EUNSUPPORTED, "document %llu is too large for a record", (unsigned long long)sw->block_doc);
	head.magic = KF_BLOCK_MAGIC(sw->codec->letter);
	head.checksum = kf_hash64(sw->value.data + KF_BLOCK_HEAD, sw->value.len - KF_BLOCK_HEAD);
	memcpy(sw->value.data, &head, KF_BLOCK_HEAD);
	for (int i = 0; i < 8; i++) key[i] = (uint8_t)(sw->block_doc >> (56 - 8 * i));
	sw->open_block = false;
	sw->heads = 0;
	return env_put(sw->env, key, sizeof key, sw->value.data, sw->value.len, err);
}

kf_status kf_shard_put_end(kf_shard_writer *sw, const kf_dochead *h, uint64_t tokens, uint64_t hash, size_t raw, kf_err *err)
{
	if (!sw->open_block) sw->block_doc = h->doc;
	sw->open_block = sw->any = true;
	sw->last_doc = h->doc;
	sw->facts.docs++;
	sw->facts.tokens += tokens;
	sw->facts.bytes += h->bytes;
	sw->facts.content += hash;
	sw->heads += strlen(h->id) + 24;
	return raw >= KF_BLOCK_RAW || sw->heads >= KF_BLOCK_HEADS ? kf_shard_flush(sw, err) : KF_OK;
}

kf_status kf_shard_commit(kf_shard_writer *sw, kf_err *err)
{
	struct shard_env *e = sw->env;
	kf_buf facts = { 0 };
	kf_shard_facts theirs;
	bool there;
	kf_status rc;
	int mrc;

	if ((rc = kf_shard_flush(sw, err)) != KF_OK) goto out;
	if ((rc = kf_facts_encode(&sw->facts, sw->sums, &facts, err)) != KF_OK) goto out;
	if ((rc = env_put(e, FACTS_KEY, strlen(FACTS_KEY), facts.data, facts.len, err)) != KF_OK) goto out;
	if ((rc = env_commit(e, err)) != KF_OK) goto out;
	if ((mrc = mdb_env_sync(e->env, 1))) {
		rc = mdb_fail(err, mrc, e);
		goto out;
	}
	mdb_env_close(e->env);
	e->env = NULL;
	if (fsync(e->fd) < 0) {
		rc = kf_fail_errno(err, "cannot sync %s", e->part);
		goto out;
	}
	/* Who began it after this run did, under another division into parts, may have ended first, and the manifest have its checksum: theirs stays. */
	if ((rc = kf_writer_shard_there(sw->set, sw->shard, true, &there, &theirs, err)) != KF_OK) goto out;
	if (there) {
		sw->facts = theirs;
		unlink(e->part);
	} else if (rename(e->part, e->path) < 0) {
		rc = kf_fail_errno(err, "cannot rename %s to %s", e->part, e->path);
		goto out;
	}
	rc = kf_sync_dir(kf_writer_dir(sw->set), err);
	if (rc == KF_OK) kf_writer_shard_done(sw->set, sw->shard, &sw->facts);
out:
	if (rc != KF_OK) unlink(e->part); /* without the name it has no value; frees the space on a full disk */
	kf_buf_release(&facts);
	writer_free(sw);
	return rc;
}

void kf_shard_abandon(kf_shard_writer *sw)
{
	if (!sw) return;
	unlink(sw->env->part);
	writer_free(sw);
}
