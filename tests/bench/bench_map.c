/* A whole vocabulary map by edit distance, on one core.
 *
 *   bench_map SOURCE-MODEL TARGET-MODEL    prints a JSON object; without models there is nothing to measure
 */
#include <stdio.h>
#include <time.h>

#include "align/mined.h"
#include "common/base/progress.h"
#include "common/model/weights.h"

#define ROUNDS 3

/* Of this process: on a busy machine the clock on the wall says little. */
static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static kf_status tokenizer(const char *path, kf_tokenizer **out, kf_err *err)
{
	kf_weights *w;
	kf_status rc;

	*out = NULL;
	if ((rc = kf_weights_open(path, &w, err)) != KF_OK) return rc;
	rc = kf_weights_tokenizer(w, out, err);
	kf_weights_close(w);
	return rc;
}

static kf_status measure(const kf_tokenizer *s, const kf_tokenizer *t, kf_err *err)
{
	double best = 1e30, worst = 0, distances = 0;
	int equal = 0;

	for (int i = 0; i < ROUNDS; i++) {
		align_mined m;
		double c = cpu_now();
		kf_status rc = align_mined_init(&m, s, t, NULL, KF_PROGRESS_NONE, err);

		c = cpu_now() - c;
		if (c < best) best = c;
		if (c > worst) worst = c;
		for (int32_t id = 0; rc == KF_OK && i == 0 && id < m.a.n; id++) {
			equal += m.near[id].distance == 0;
			if (m.near[id].at >= 0) distances += m.near[id].distance;
		}
		align_mined_release(&m);
		if (rc != KF_OK) return rc;
	}
	printf("{\"bench\": \"map\", \"method\": \"mined\", \"source_tokens\": %d, \"target_tokens\": %d, \"equal\": %d, "
		"\"mean_distance\": %.4f, \"threads\": 1, \"rounds\": %d, \"cpu_seconds\": %.3f, \"slowest_cpu_seconds\": %.3f}\n",
		(int)kf_tokenizer_size(s), (int)kf_tokenizer_size(t), equal, distances / kf_tokenizer_size(s), ROUNDS, best, worst);
	return KF_OK;
}

int main(int argc, char **argv)
{
	kf_tokenizer *s = NULL, *t = NULL;
	kf_err err;
	int status = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: %s SOURCE-MODEL TARGET-MODEL\n", argv[0]);
		return argc == 1 ? 0 : 2;
	}
	if (tokenizer(argv[1], &s, &err) != KF_OK || tokenizer(argv[2], &t, &err) != KF_OK || measure(s, t, &err) != KF_OK) {
		fprintf(stderr, "%s\n", err.text);
		status = 1;
	}
	kf_tokenizer_free(s);
	kf_tokenizer_free(t);
	return status;
}
