/* Sets: begun, continued, up to date, refused, in parts, complete and damaged. */
#include "store_test.h"
#include "common/store/manifest.h"

#include <fcntl.h>
#include <sys/wait.h>

#define V 1000

static kf_arena arena;
static kf_err err;

static kf_logits_rec doc_of(uint64_t doc)
{
	kf_rng r;

	kf_rng_seed(&r, 1000 + doc);
	return random_logits(&r, doc, 40 + (uint32_t)doc % 7, 4, doc % 2, true, V, &arena);
}

/* Shard s of n holds documents s * 5 .. s * 5 + 4. */
static void write_shard(kf_set_writer *w, int s)
{
	kf_shard_writer *sw;

	OK(kf_shard_begin(w, s, &sw, &err));
	for (uint64_t i = 0; i < 5; i++) {
		kf_logits_rec rec = doc_of((uint64_t)s * 5 + i);

		OK(kf_shard_put_logits(sw, &rec, &err));
	}
	OK(kf_shard_commit(sw, &err));
}

static void write_set(const kf_set_spec *spec)
{
	kf_set_writer *w;
	kf_set_state state;
	bool complete;

	OK(kf_set_begin(spec, &w, &state, &err));
	for (int s = 0; s < spec->n_shards; s++)
		if (!kf_set_shard_done(w, s)) write_shard(w, s);
	OK(kf_set_commit(w, NULL, &complete, &err));
	assert_true(complete);
}

static void check_set(const char *dir, int shards)
{
	kf_set *set;

	OK(kf_set_open(dir, KF_SET_LOGITS, &set, &err));
	assert_int_equal(kf_set_shards(set), shards);
	assert_int_equal(kf_set_docs(set), shards * 5);
	for (int s = 0; s < shards; s++) {
		kf_shard *sh;
		kf_logits_rec got, want;

		OK(kf_shard_open(set, s, &sh, &err));
		for (uint64_t i = 0; i < 5; i++) {
			OK(kf_shard_next_logits(sh, &arena, &got, &err));
			want = doc_of((uint64_t)s * 5 + i);
			same_logits(&want, &got, false);
		}
		assert_int_equal(kf_shard_next_logits(sh, &arena, &got, &err), KF_END);
		kf_shard_close(sh);
	}
	kf_set_close(set);
	kf_arena_reset(&arena);
}

static bool has_other_files(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool other = false;

	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && strcmp(e->d_name, "manifest.json") && strcmp(e->d_name, "tokenizer.zst") && strcmp(e->d_name, "times.log") &&
		    !(strncmp(e->d_name, "shard-", 6) == 0 && strlen(e->d_name) == strlen("shard-00000.mdb")))
			other = true;
	closedir(d);
	return other;
}

/* Adds up what times.log says was written; how many lines it has. */
static int times(const char *dir, long *tokens, long *docs)
{
	char path[KF_PATH_MAX + 32], line[512];
	int n = 0, shards;
	long t, d, bytes;
	double seconds;
	FILE *f;

	snprintf(path, sizeof path, "%s/times.log", dir);
	*tokens = *docs = 0;
	if (!(f = fopen(path, "r"))) return 0;
	for (; fgets(line, sizeof line, f); n++) {
		assert_int_equal(sscanf(line, "{\"shards\":%d,\"docs\":%ld,\"tokens\":%ld,\"bytes\":%ld,\"seconds\":%lf}", &shards, &d, &t, &bytes,
			&seconds), 5);
		assert_true(seconds >= 0);
		*tokens += t;
		*docs += d;
	}
	fclose(f);
	return n;
}

static void test_resume(void **st)
{
	long tokens, docs;
	char dir[KF_PATH_MAX], path[KF_PATH_MAX + 32];
	kf_set_spec spec;
	kf_set_writer *w;
	kf_set_state state;
	kf_shard_writer *sw;
	kf_set *set;
	kf_logits_rec rec;
	bool complete;

	(void)st;
	scratch(dir);
	spec = spec_of(dir, KF_SET_LOGITS, 3, false);
	FAILS(KF_ENOTFOUND, "no manifest.json", kf_set_open(dir, KF_SET_LOGITS, &set, &err));
	OK(kf_set_begin(&spec, &w, &state, &err));
	assert_int_equal(state, KF_SET_NEW);
	write_shard(w, 1);
	assert_true(kf_set_shard_done(w, 1));
	OK(kf_shard_begin(w, 2, &sw, &err));
	rec = doc_of(10);
	OK(kf_shard_put_logits(sw, &rec, &err));
	kf_shard_abandon(sw);
	OK(kf_set_commit(w, NULL, &complete, &err));
	assert_false(complete);
	FAILS(KF_ENOTFOUND, "not complete", kf_set_open(dir, KF_SET_LOGITS, &set, &err));

	/* the remains of a killed run: a temporary shard, a temporary manifest */
	snprintf(path, sizeof path, "%s/shard-00000.mdb.part", dir);
	OK(kf_file_write_atomic(path, "rubbish", 7, &err));
	snprintf(path, sizeof path, "%s/manifest.json.part", dir);
	OK(kf_file_write_atomic(path, "rubbish", 7, &err));
	OK(kf_set_begin(&spec, &w, &state, &err));
	assert_int_equal(state, KF_SET_RESUMED);
	assert_false(kf_set_shard_done(w, 0));
	assert_true(kf_set_shard_done(w, 1));
	assert_false(kf_set_shard_done(w, 2));
	write_shard(w, 0);
	write_shard(w, 2);
	OK(kf_set_commit(w, NULL, &complete, &err));
	assert_true(complete);
	check_set(dir, 3);
	assert_false(has_other_files(dir));
	/* each run tells of the shards that it wrote */
	assert_int_equal(times(dir, &tokens, &docs), 2);
	assert_int_equal(docs, 15);
	assert_true(tokens > 15 * 40);

	OK(kf_set_begin(&spec, &w, &state, &err));
	assert_int_equal(state, KF_SET_CURRENT);
	OK(kf_set_commit(w, NULL, &complete, &err));
	assert_true(complete);
	assert_int_equal(times(dir, &tokens, &docs), 2);   /* nothing was done */

	/* a shard lost or cut short is made again */
	snprintf(path, sizeof path, "%s/shard-00001.mdb", dir);
	assert_int_equal(truncate(path, 8192), 0);
	OK(kf_set_open(dir, KF_SET_LOGITS, &set, &err));
	FAILS(KF_EDATA, "manifest says", kf_shard_open(set, 1, (kf_shard **)&sw, &err));
	kf_set_close(set);
	OK(kf_set_begin(&spec, &w, &state, &err));
	assert_int_equal(state, KF_SET_RESUMED);
	assert_true(kf_set_shard_done(w, 0));
	assert_false(kf_set_shard_done(w, 1));
	write_shard(w, 1);
	OK(kf_set_commit(w, NULL, NULL, &err));
	check_set(dir, 3);
	assert_int_equal(times(dir, &tokens, &docs), 3);
	assert_int_equal(docs, 20);
	remove_dir(dir);
}

static void test_mismatch(void **st)
{
	char dir[KF_PATH_MAX], path[KF_PATH_MAX + 32];
	kf_set_spec spec, other;
	const char *newer = "{\"kfuse\":\"shard set\",\"format\":999,\"kind\":\"logits\"}";
	json_t *m;
	kf_set_input in[2] = { { "corpus", "corpus", { 1, 2 } }, { "model", "other.gguf", { 9, 4 } } };
	kf_set_writer *w;
	kf_set_state state;
	kf_set *set;

	(void)st;
	scratch(dir);
	spec = spec_of(dir, KF_SET_LOGITS, 1, false);
	spec.options = json_pack("{s:i}", "top-k", 4);
	write_set(&spec);
	other = spec;
	other.options = json_pack("{s:i}", "top-k", 5);
	FAILS(KF_EMISMATCH, "option --top-k: 4 there, 5 here", kf_set_begin(&other, &w, &state, &err));
	/* more than a message has room for */
	for (int i = 0; i < 20; i++) {
		char name[64];

		snprintf(name, sizeof name, "an-option-of-some-length-%d", i);
		json_object_set_new(other.options, name, json_integer(i));
	}
	FAILS(KF_EMISMATCH, " here; and more); choose another --out, or give --replace", kf_set_begin(&other, &w, &state, &err));
	json_decref(other.options);
	other = spec;
	other.inputs = in;
	FAILS(KF_EMISMATCH, "input model differs: model.gguf there, other.gguf here", kf_set_begin(&other, &w, &state, &err));
	in[1].fp.hi = 3;
	OK(kf_set_begin(&other, &w, &state, &err)); /* the name is for people only */
	assert_int_equal(state, KF_SET_CURRENT);
	kf_set_abandon(w);
	other = spec;
	other.n_shards = 2;
	FAILS(KF_EMISMATCH, "number of shards: 1 there, 2 here", kf_set_begin(&other, &w, &state, &err));
	other = spec;
	other.f32 = true;
	FAILS(KF_EMISMATCH, "precision", kf_set_begin(&other, &w, &state, &err));
	FAILS(KF_EMISMATCH, "kind logits; one of kind corpus", kf_set_open(dir, KF_SET_CORPUS, &set, &err));
	/* numbers that nobody can read yet */
	snprintf(path, sizeof path, "%s/manifest.json", dir);
	OK(kf_manifest_load(path, &m, &err));
	json_object_set_new(m, "precision", json_string("f16"));
	OK(kf_manifest_write(path, m, &err));
	json_decref(m);
	FAILS(KF_EUNSUPPORTED, "precision \"f16\"", kf_set_open(dir, KF_SET_LOGITS, &set, &err));
	FAILS(KF_EUNSUPPORTED, "precision \"f16\"", kf_set_begin(&spec, &w, &state, &err));
	/* a newer format */
	OK(kf_file_write_atomic(path, newer, strlen(newer), &err));
	FAILS(KF_EUNSUPPORTED, "newer version", kf_set_open(dir, KF_SET_LOGITS, &set, &err));
	FAILS(KF_EUNSUPPORTED, "newer version", kf_set_begin(&spec, &w, &state, &err));
	remove_dir(dir);
	scratch(dir);
	snprintf(path, sizeof path, "%s/thesis.tex", dir);
	OK(kf_file_write_atomic(path, "x", 1, &err));
	FAILS(KF_EINVAL, "thesis.tex", kf_set_begin(&spec, &w, &state, &err));
	json_decref(spec.options);
	remove_dir(dir);
}

static void test_tokenizer(void **st)
{
	char dir[KF_PATH_MAX], path[KF_PATH_MAX + 32], bytes[5000];
	kf_set_spec spec;
	kf_set *set;
	const void *data;
	size_t n;
	kf_fp fp;

	(void)st;
	scratch(dir);
	for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i % 251);
	spec = spec_of(dir, KF_SET_LOGITS, 1, false);
	spec.tokenizer = bytes;
	spec.tokenizer_size = sizeof bytes;
	write_set(&spec);
	OK(kf_set_open(dir, KF_SET_LOGITS, &set, &err));
	OK(kf_set_tokenizer(set, &data, &n, &err));
	assert_int_equal(n, sizeof bytes);
	assert_memory_equal(data, bytes, n);
	OK(kf_set_input_fp(set, "model", &fp, &err));
	assert_int_equal(fp.hi, 3);
	FAILS(KF_ENOTFOUND, "no input \"target\"", kf_set_input_fp(set, "target", &fp, &err));
	kf_set_close(set);
	snprintf(path, sizeof path, "%s/tokenizer.zst", dir);
	assert_int_equal(truncate(path, 20), 0);
	FAILS(KF_EDATA, "tokenizer.zst", kf_set_open(dir, KF_SET_LOGITS, &set, &err));
	remove_dir(dir);
}

/* Identity and content: not of paths, nor of the number of shards. */
static void test_identity(void **st)
{
	char a[KF_PATH_MAX], b[KF_PATH_MAX];
	kf_set_spec sa, sb;
	kf_set *one, *two;
	kf_set_writer *w;
	kf_set_state state;
	kf_shard_writer *sw;
	const char *ca, *cb;

	(void)st;
	scratch(a);
	scratch(b);
	sa = spec_of(a, KF_SET_LOGITS, 2, false);
	write_set(&sa);
	sb = spec_of(b, KF_SET_LOGITS, 1, false);
	OK(kf_set_begin(&sb, &w, &state, &err));
	OK(kf_shard_begin(w, 0, &sw, &err));
	for (uint64_t i = 0; i < 10; i++) {
		kf_logits_rec rec = doc_of(i);

		OK(kf_shard_put_logits(sw, &rec, &err));
	}
	OK(kf_shard_commit(sw, &err));
	OK(kf_set_commit(w, NULL, NULL, &err));
	OK(kf_set_open(a, KF_SET_LOGITS, &one, &err));
	OK(kf_set_open(b, KF_SET_LOGITS, &two, &err));
	assert_true(kf_fp_equal(kf_set_fp(one), kf_set_fp(two)));
	ca = json_string_value(json_object_get(kf_set_manifest(one), "content"));
	cb = json_string_value(json_object_get(kf_set_manifest(two), "content"));
	assert_string_equal(ca, cb);
	kf_set_close(one);
	kf_set_close(two);
	kf_arena_reset(&arena);
	remove_dir(a);
	remove_dir(b);
}

/* Two processes write the halves of one set at once, many times: it is always complete in the end. */
static void test_parts(void **st)
{
	char dir[KF_PATH_MAX];

	(void)st;
	for (int round = 0; round < 10; round++) {
		kf_set_spec spec;
		pid_t pid[2];

		scratch(dir);
		spec = spec_of(dir, KF_SET_LOGITS, 4, false);
		for (int part = 0; part < 2; part++) {
			if ((pid[part] = fork())) continue;
			spec.part = part;
			spec.parts = 2;
			kf_set_writer *w;
			kf_set_state state;
			bool complete;

			if (kf_set_begin(&spec, &w, &state, &err) != KF_OK) _exit(1);
			for (int s = part; s < 4; s += 2)
				if (!kf_set_shard_done(w, s)) write_shard(w, s);
			_exit(kf_set_commit(w, NULL, &complete, &err) == KF_OK ? 0 : 1);
		}
		for (int part = 0; part < 2; part++) {
			int status;

			assert_int_equal(waitpid(pid[part], &status, 0), pid[part]);
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		}
		check_set(dir, 4);
		assert_false(has_other_files(dir));
		remove_dir(dir);
	}
}

/* What is kept with a shard is there for other parts; each looks at the blocks of its own shards, and only of those. */
static void test_sums(void **st)
{
	char dir[KF_PATH_MAX], path[KF_PATH_MAX + 32];
	json_t *sums = json_pack("[[s, i, f], [s, i, f]]", "prose", 12, 0.1, "größer", 3, -1e300), *got;
	kf_set_spec spec;
	kf_set_writer *w;
	kf_set_state state;
	kf_shard_writer *sw;
	FILE *f;

	(void)st;
	scratch(dir);
	spec = spec_of(dir, KF_SET_LOGITS, 3, false);
	spec.parts = 2;
	OK(kf_set_begin(&spec, &w, &state, &err));
	FAILS(KF_ENOTFOUND, "not there yet", kf_set_shard_sums(w, 0, &got, &err));
	OK(kf_shard_begin(w, 0, &sw, &err));
	for (uint64_t i = 0; i < 5; i++) {
		kf_logits_rec rec = doc_of(i);

		OK(kf_shard_put_logits(sw, &rec, &err));
	}
	kf_shard_keep_sums(sw, sums);
	OK(kf_shard_commit(sw, &err));
	write_shard(w, 2);
	OK(kf_set_shard_sums(w, 2, &got, &err));
	assert_null(got);
	kf_set_leave(w);

	spec.part = 1;
	OK(kf_set_begin(&spec, &w, &state, &err));
	assert_int_equal(state, KF_SET_RESUMED);
	assert_false(kf_set_shard_done(w, 0)); /* none of this part's */
	assert_false(kf_set_shard_done(w, 1));
	OK(kf_set_shard_sums(w, 0, &got, &err));
	assert_true(json_equal(sums, got));
	json_decref(got);
	kf_set_leave(w);

	/* damage inside a block */
	snprintf(path, sizeof path, "%s/shard-00002.mdb", dir);
	assert_non_null(f = fopen(path, "r+"));
	for (int c, seen = 0; seen < 4;) { /* its first block begins with KFBL */
		assert_int_not_equal(c = fgetc(f), EOF);
		seen = c == "KFBL"[seen] ? seen + 1 : c == 'K';
	}
	assert_int_equal(fseek(f, 40, SEEK_CUR), 0);
	assert_int_equal(fputc(0x55, f), 0x55);
	fclose(f);
	spec.part = 0;
	OK(kf_set_begin(&spec, &w, &state, &err));
	assert_true(kf_set_shard_done(w, 0));
	assert_false(kf_set_shard_done(w, 2));
	write_shard(w, 2);
	kf_set_leave(w);
	spec.part = 1;
	OK(kf_set_begin(&spec, &w, &state, &err));
	write_shard(w, 1);
	OK(kf_set_commit(w, NULL, NULL, &err));
	check_set(dir, 3);
	/* another identity's shard is no shard of the set */
	spec.f32 = true;
	snprintf(path, sizeof path, "%s/manifest.json", dir);
	assert_int_equal(unlink(path), 0);
	OK(kf_set_begin(&spec, &w, &state, &err));
	FAILS(KF_ENOTFOUND, "another set", kf_set_shard_sums(w, 0, &got, &err));
	kf_set_abandon(w);
	json_decref(sums);
	remove_dir(dir);
}

/* A shard that a living process writes is not taken from it. */
static void test_same_shard_twice(void **st)
{
	char dir[KF_PATH_MAX];
	kf_set_spec spec;
	kf_set_writer *w;
	kf_set_state state;
	kf_shard_writer *sw, *other;

	(void)st;
	scratch(dir);
	spec = spec_of(dir, KF_SET_LOGITS, 2, false);
	OK(kf_set_begin(&spec, &w, &state, &err));
	OK(kf_shard_begin(w, 0, &sw, &err));
	FAILS(KF_EBUSY, "another process", kf_shard_begin(w, 0, &other, &err));
	FAILS(KF_EINVAL, "no shard 2", kf_shard_begin(w, 2, &other, &err));
	kf_shard_abandon(sw);
	kf_set_abandon(w);
	remove_dir(dir);
}

/* Parts of another division: one that began before the set was whole leaves the shards that others made meanwhile, of which the manifest has
 * the checksums. */
static void test_late_part(void **st)
{
	char dir[KF_PATH_MAX];
	kf_set_spec spec;
	kf_set_writer *late, *w;
	kf_set_state state;
	kf_shard_writer *sw;
	kf_logits_rec rec;
	kf_set *set;
	kf_shard *s;
	bool complete;

	(void)st;
	scratch(dir);
	spec = spec_of(dir, KF_SET_LOGITS, 2, false);
	spec.parts = 3;
	OK(kf_set_begin(&spec, &late, &state, &err));
	spec.parts = 2;
	for (spec.part = 0; spec.part < 2; spec.part++) {
		OK(kf_set_begin(&spec, &w, &state, &err));
		write_shard(w, spec.part);
		OK(kf_set_commit(w, NULL, &complete, &err));
	}
	assert_true(complete);
	assert_false(kf_set_shard_done(late, 0));
	OK(kf_shard_begin(late, 0, &sw, &err));
	rec = doc_of(9);           /* as another machine might have computed it */
	OK(kf_shard_put_logits(sw, &rec, &err));
	OK(kf_shard_commit(sw, &err));
	OK(kf_set_commit(late, NULL, &complete, &err));
	check_set(dir, 2);
	OK(kf_set_open(dir, KF_SET_LOGITS, &set, &err));
	for (int i = 0; i < 2; i++) {
		OK(kf_shard_open(set, i, &s, &err));
		OK(kf_shard_verify(set, i, s, &err));
		kf_shard_close(s);
	}
	kf_set_close(set);
	assert_false(has_other_files(dir));
	remove_dir(dir);
}

/* Without their manifest, shards of a set of two are none of a set of three. */
static void test_other_number(void **st)
{
	char dir[KF_PATH_MAX], path[KF_PATH_MAX];
	kf_set_spec spec;
	kf_set_writer *w;
	kf_set_state state;

	(void)st;
	scratch(dir);
	spec = spec_of(dir, KF_SET_LOGITS, 2, false);
	write_set(&spec);
	OK(kf_path_join(path, dir, "manifest.json", &err));
	for (int n = 3; n >= 2; n--) {
		assert_int_equal(unlink(path), 0);
		spec.n_shards = n;
		OK(kf_set_begin(&spec, &w, &state, &err));
		for (int s = 0; s < n; s++) assert_false(kf_set_shard_done(w, s));
		kf_set_abandon(w);
		write_set(&spec);
		check_set(dir, n);
	}
	remove_dir(dir);
}

/* Every file of a set of one shard, damaged everywhere: the good answer or a polite error, nothing else. */
static size_t read_all(const char *dir)
{
	kf_set *set;
	kf_shard *s;
	kf_logits_rec rec;
	size_t docs = 0;
	kf_status rc = kf_set_open(dir, KF_SET_LOGITS, &set, &err);

	if (rc != KF_OK) {
		assert_true(rc == KF_EDATA || rc == KF_EUNSUPPORTED || rc == KF_EMISMATCH || rc == KF_ENOMEM);
		return 0;
	}
	for (int i = 0; i < kf_set_shards(set) && i < 4; i++) {
		rc = kf_shard_open(set, i, &s, &err);
		while (rc == KF_OK && (rc = kf_shard_next_logits(s, &arena, &rec, &err)) == KF_OK) {
			kf_logits_rec want = doc_of(docs);

			same_logits(&want, &rec, false);
			docs++;
		}
		if (rc != KF_END && rc != KF_EDATA && rc != KF_EUNSUPPORTED && rc != KF_ENOMEM && rc != KF_EIO)
			fail_msg("%s: %s", kf_status_name(rc), err.text);
		kf_shard_close(s);
	}
	kf_set_close(set);
	kf_arena_reset(&arena);
	return docs;
}

static void test_damage(void **st)
{
	static const char *const names[] = { "manifest.json", "shard-00000.mdb" };
	char dir[KF_PATH_MAX], path[KF_PATH_MAX + 32];
	kf_set_spec spec;
	kf_rng r;

	(void)st;
	scratch(dir);
	spec = spec_of(dir, KF_SET_LOGITS, 1, false);
	write_set(&spec);
	assert_int_equal(read_all(dir), 5);
	kf_rng_seed(&r, 77);
	for (int f = 0; f < 2; f++) {
		kf_buf good = { 0 };

		snprintf(path, sizeof path, "%s/%s", dir, names[f]);
		OK(kf_file_read(path, 1 << 24, &good, &err));
		for (int t = 0; t < 1500; t++) {
			/* half of the time in the first two pages and the last, where LMDB's own structures are */
			size_t at = (size_t)kf_rng_below(&r, t % 2 && good.len > 16384 ? 12288 : good.len);
			uint8_t byte = (uint8_t)kf_rng_below(&r, 256), was;
			int fd = open(path, O_WRONLY);

			if (t % 4 == 1 && good.len > 16384) at = at % 160 + (at % 3) * 4096;
			was = good.data[at];
			assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
			read_all(dir);
			assert_int_equal(pwrite(fd, &was, 1, (off_t)at), 1);
			close(fd);
		}
		assert_int_equal(read_all(dir), 5);
		for (int t = 0; t < 60; t++) {
			assert_int_equal(truncate(path, (off_t)kf_rng_below(&r, good.len)), 0);
			assert_int_equal(read_all(dir), 0);
			OK(kf_file_write_atomic(path, good.data, good.len, &err));
		}
		kf_buf_release(&good);
	}
	remove_dir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resume), cmocka_unit_test(test_mismatch), cmocka_unit_test(test_tokenizer),
		cmocka_unit_test(test_identity), cmocka_unit_test(test_parts), cmocka_unit_test(test_sums), cmocka_unit_test(test_same_shard_twice),
		cmocka_unit_test(test_late_part), cmocka_unit_test(test_other_number), cmocka_unit_test(test_damage),
	};
	int failed;

	kf_arena_init(&arena);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	kf_arena_release(&arena);
	return failed;
}
