# make experiments: the comparisons of the papers (data/experiments.py, docs/results.md), on the demo's models and text.
#
#   make experiments SIZE=small            a first look
#   make experiments ONLY=c SEEDS=1,2,3    some parts, other seeds
#   make experiments LAMBDAS=0.9,0.5       another search; LRS=1e-4,2e-4: of learning rates
#   make experiments DOCS=256 EPOCHS=1 METHODS=kd   other sizes; fewer rows of A, B and D, with commas between them: CLM, kfuse and those
#   make experiments TASKS=quartz TASK_LIMIT=100    other questions with answers than the size's own; TASKS=: none
#   make experiments JOBS=2                two trainings at a time, each with half the cores

SIZE ?= full
ONLY ?= a,b,c,d
SEEDS ?=
LAMBDAS ?=
LRS ?=
METHODS ?=
JOBS ?= 1
EXPERIMENTS ?= work/experiments
EXPERT_DOMAINS ?= prose docs c
# of part d; there are french, spanish and italian too
LANGUAGE_DOMAINS ?= german
# What the methods and the size say is no variable of this command: a value that would do nothing is a slip.
ifneq ($(filter experiments,$(MAKECMDGOALS)),)
$(foreach v,$(filter WORK TEXT ADD VALID_DOCS TEST_DOCS SEED FUNCTION LEVEL WEIGHT TAIL LAMBDA LR BATCH PATIENCE COMPUTE KD ADAPT ADAPT_LR \
  ADAPT_BATCH FOLDS GENERATE GENERATE_TOKENS GENERATOR ALIGN VOCAB_MAP ONE_TO_MANY DOC_BYTES SHARDS SKIP_BAD EXTRACT_COMPUTE MERGES DENSITY SELECT ENSEMBLE,$(given)),\
  $(error $v=$($v) does nothing here: make experiments takes SIZE ONLY SEEDS LAMBDAS LRS METHODS DOCS EPOCHS TASKS TASK_LIMIT EXPERIMENTS THREADS JOBS REPLACE, and models and domains))
endif
# Not named in the recipe, so that make -n runs nothing.
make := $(MAKE)
experiments: $(PROGRAMS) $(foreach m,$(TARGET) $(sources),$(call model_files,$m)) \
  $(patsubst %,$(DATA)/text/%.jsonl,$(sort $(if $(findstring a,$(ONLY)),$(DOMAINS)) $(if $(findstring b,$(ONLY)),$(EXPERT_DOMAINS)) \
  $(if $(findstring c,$(ONLY)),$(CHAT_DOMAINS)) $(if $(findstring d,$(ONLY)),$(LANGUAGE_DOMAINS))))
	@python3 data/experiments.py --size $(SIZE) --only "$(ONLY)" $(if $(SEEDS),--seeds "$(SEEDS)") \
	  $(if $(LAMBDAS),--lambdas "$(LAMBDAS)") $(if $(LRS),--lrs "$(LRS)") $(if $(METHODS),--methods "$(METHODS)") \
	  $(if $(filter DOCS,$(given)),--docs $(DOCS)) $(if $(filter EPOCHS,$(given)),--epochs $(EPOCHS)) $(if $(or $(TASKS),$(filter TASKS,$(given))),--tasks "$(TASKS)") $(addprefix --task-limit ,$(TASK_LIMIT)) \
	  --target $(TARGET) --sources "$(sources)" \
	  --domains "$(DOMAINS)" --expert-domains "$(EXPERT_DOMAINS)" --chat-domains "$(CHAT_DOMAINS)" --language-domains "$(LANGUAGE_DOMAINS)" --data $(DATA) --work $(EXPERIMENTS) \
	  $(foreach m,$(TARGET) $(sources),$(addprefix --chat-template $m=,$(CHAT_TEMPLATE_$m))) --bin $(bin) --make "$(make)" --threads $(THREADS) --jobs $(JOBS) $(if $(filter 1,$(REPLACE)),--replace)
.PHONY: experiments
