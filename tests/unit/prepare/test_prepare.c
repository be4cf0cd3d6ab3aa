#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/store/record.h"
#include "data/prepare.h"
#include "tests/unit/scratch.h"

static char in_path[64], out_path[64];

static void put(const void *text, size_t n)
{
	kf_err err;

	assert_int_equal(kf_file_write_atomic(in_path, text, n, &err), KF_OK);
}

static void remove_out(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", out_path);
	assert_int_equal(system(command), 0);
}

static kf_status prepare(kf_prepare_opts o, kf_prepare_stats *s, kf_err *err)
{
	const char *paths[] = { in_path };
	kf_status rc;

	o.paths = paths;
	o.n_paths = 1;
	o.out = out_path;
	o.progress = 2;
	o.record = json_pack("{s:i}", "doc-bytes", (int)o.doc_bytes);
	rc = kf_prepare(&o, s, err);
	json_decref(o.record);
	return rc;
}

/* All the text of a corpus, checked to be numbered in order, and how many documents it has. */
static int read_back(kf_buf *text, uint32_t most)
{
	kf_set *set;
	kf_arena arena;
	kf_err err;
	uint64_t next = 0;

	kf_buf_clear(text);
	kf_arena_init(&arena);
	assert_int_equal(kf_set_open(out_path, KF_SET_CORPUS, &set, &err), KF_OK);
	for (int s = 0; s < kf_set_shards(set); s++) {
		kf_shard *shard;
		kf_corpus_rec rec;
		kf_status rc;

		assert_int_equal(kf_shard_open(set, s, &shard, &err), KF_OK);
		assert_true(kf_shard_docs(shard) > 0);
		while ((rc = kf_shard_next_corpus(shard, &arena, &rec, &err)) == KF_OK) {
			assert_int_equal(rec.head.doc, next++);
			assert_int_equal(rec.head.piece, rec.head.doc);
			assert_true(rec.head.bytes <= most);
			kf_buf_put(text, rec.text, rec.head.bytes);
		}
		assert_int_equal(rc, KF_END);
		kf_shard_close(shard);
	}
	assert_int_equal(kf_set_docs(set), next);
	assert_int_equal(kf_set_bytes(set), text->len);
	kf_set_close(set);
	kf_arena_release(&arena);
	return (int)next;
}

static void test_round_trip(void **state)
{
	kf_buf text = { 0 }, back = { 0 };
	kf_prepare_stats s;
	kf_err err;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		char line[64];

		snprintf(line, sizeof line, "line %d caf\xc3\xa9 %s\n", i, i % 7 ? "" : "\xf0\x9f\x98\x80");
		kf_buf_put(&text, line, strlen(line));
	}
	put(text.data, text.len);
	for (int shards = 1; shards < 40; shards += 12) {
		remove_out();
		assert_int_equal(prepare((kf_prepare_opts){ .doc_bytes = 1000, .shards = shards }, &s, &err), KF_OK);
		assert_int_equal(s.state, KF_SET_NEW);
		assert_int_equal(s.shards, shards);
		assert_int_equal(s.pieces, read_back(&back, 1000));
		assert_int_equal(s.bytes, text.len);
		assert_int_equal(back.len, text.len);
		assert_memory_equal(back.data, text.data, text.len);
	}
	assert_int_equal(prepare((kf_prepare_opts){ .doc_bytes = 1000, .shards = 37 }, &s, &err), KF_OK);
	assert_int_equal(s.state, KF_SET_CURRENT);
	assert_int_equal(prepare((kf_prepare_opts){ .doc_bytes = 999, .shards = 37 }, &s, &err), KF_EMISMATCH);
	/* Never more shards than documents. */
	remove_out();
	put("one", 3);
	assert_int_equal(prepare((kf_prepare_opts){ .doc_bytes = 1000, .shards = 37 }, &s, &err), KF_OK);
	assert_int_equal(s.shards, 1);
	kf_buf_release(&text);
	kf_buf_release(&back);
}

static void test_invalid(void **state)
{
	kf_buf back = { 0 };
	kf_prepare_stats s;
	kf_err err;

	(void)state;
	/* Not UTF-8: as it is, the decomposed e too. */
	put("e\xcc\x81 \xff", 5);
	remove_out();
	assert_int_equal(prepare((kf_prepare_opts){ .doc_bytes = 1000, .shards = 1 }, &s, &err), KF_OK);
	assert_int_equal(s.not_utf8, 1);
	assert_string_equal(s.first_not_utf8, in_path);
	read_back(&back, 1000);
	assert_int_equal(back.len, 5);
	assert_memory_equal(back.data, "e\xcc\x81 \xff", 5);
	remove_out();
	assert_int_equal(prepare((kf_prepare_opts){ .doc_bytes = 1000, .shards = 1,
		.invalid = KF_INVALID_REFUSE }, &s, &err), KF_EDATA);
	assert_false(kf_exists(out_path));
	/* UTF-8: composed. */
	put("e\xcc\x81 ok", 6);
	assert_int_equal(prepare((kf_prepare_opts){ .doc_bytes = 1000, .shards = 1 }, &s, &err), KF_OK);
	read_back(&back, 1000);
	assert_int_equal(back.len, 5);
	assert_memory_equal(back.data, "\xc3\xa9 ok", 5);
	kf_buf_release(&back);
}

static void test_choice(void **state)
{
	uint64_t rank[1000];
	int part[4] = { 0 };

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(kf_choice_rank(0, i), i);
		rank[i] = kf_choice_rank(5, i);
		for (uint64_t j = 0; j < i; j++) assert_true(rank[j] != rank[i]);
	}
	for (int i = 0; i < 10000; i++) {
		char id[16];

		snprintf(id, sizeof id, "id %d", i);
		part[kf_split_of(id)]++;
	}
	assert_int_equal(part[KF_SPLIT_ALL], 0);
	assert_in_range(part[KF_SPLIT_TRAIN], 7800, 8200);
	assert_in_range(part[KF_SPLIT_VALID], 850, 1150);
	assert_in_range(part[KF_SPLIT_TEST], 850, 1150);
}

static int make_paths(void **state)
{
	if (make_scratch(state) != 0) return -1;
	snprintf(in_path, sizeof in_path, "%s/in.txt", scratch);
	snprintf(out_path, sizeof out_path, "%s/out", scratch);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_invalid), cmocka_unit_test(test_choice),
	};

	return cmocka_run_group_tests(tests, make_paths, drop_scratch);
}
