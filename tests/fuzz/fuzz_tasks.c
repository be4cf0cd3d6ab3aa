/* Files of tasks, in every form; and what is made of their items. */
#include <string.h>

#include "eval/task.h"
#include "tests/fuzz/fuzz.h"

static void use(const kf_eval_task *t, kf_buf *out)
{
	for (int i = 0; i < t->n; i++) {
		const kf_task_item *x = &t->item[i];
		bool same;
		kf_err err;

		kf_buf_clear(out);
		kf_task_prompt(t, i, i < 3 ? i : 3, out);
		fuzz_answer(kf_task_matches(t, x, (const char *)out->data, out->len, &same, &err), &err);
		kf_task_text((const uint8_t *)x->prompt, strlen(x->prompt), out);
		for (kf_normalize how = KF_NORMALIZE_SPACE; how <= KF_NORMALIZE_NUMBER; how++)
			kf_task_normalize(how, x->prompt, strlen(x->prompt), out);
		if (t->kind == KF_TASK_CODE) kf_task_program(x, x->prompt, strlen(x->prompt), true, out);
		for (int k = 0; k < x->n_options; k++) fuzz_touch(x->option[k], strlen(x->option[k]));
		fuzz_touch(out->data, out->len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	kf_buf out = { 0 };
	kf_tasks t;
	kf_err err;

	err.text[0] = 0;
	kf_tasks_init(&t);
	fuzz_answer(kf_tasks_read(fuzz_file(data, size), &t, &err), &err);
	for (int i = 0; i < t.n; i++) use(&t.task[i], &out);
	kf_tasks_release(&t);
	kf_buf_release(&out);
	return 0;
}
