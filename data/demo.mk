# What the pipeline (data/pipeline.mk) is for.
#
#   make demo                              everything, from nothing: fuse, train, evaluate
#   make demo DOCS=50                      more text
#   make demo SOURCES=gemma3-270m          another choice of sources: what does not depend on it is reused
#   make baselines                         beside the fused model: CLM, distillation from one source, ensemble, merging
#   make pairs                             FuseChat: the target with each source, then the results merged in every way
#   make fusechat-demo                     the same on conversations
#   make demo GENERATE=4                   with text that a source makes of the training passages
#   make continual ADD=MODEL               one source more for a model that is fused already
#   make stage-corpus, stage-logits, stage-aligned, stage-targets     a stage of it, with what comes before; the last lines
#                                          printed are its sets. Here, where folders are called so: make extract, align, fuse (all), train
#   make train-fused, train-clm, train-kd  one model alone; the last line printed is its folder
#   make tasks TASKS="hellaswag mmlu"      the models as they come, on questions with answers
#   make demo TASKS=hellaswag              … and in the reports of all the others
#   make -n TARGET …                       what would run

tail_tag := $(addprefix -,$(filter-out calibrated,$(TAIL)))
how := $(FUNCTION)-$(LEVEL)-$(WEIGHT)$(align_tag)$(adapt_tag)$(tail_tag)$(learnt_tag)
fusion := --function $(FUNCTION) $(if $(filter min-ce avg-ce,$(FUNCTION)),--level $(LEVEL)) --weight $(WEIGHT) --tail $(TAIL)
sources := $(sort $(SOURCES))
$(if $(sources),,$(if $(filter demo pairs baselines continual fuse train-fused train-kd ready-fused ready-kd stage-aligned stage-targets ensemble,$(MAKECMDGOALS)),$(error SOURCES is empty: it names the models to learn from)))
fused = fused-$(call plus,$1)-$(how)-$(LAMBDA)-$(schedule)
start := $(call model,$(TARGET))
start_files := $(call model_files,$(TARGET))

# The sources together, each alone (the pairs of FuseChat: the target's own distribution takes part), and with one more.
mixes := $(sort $(call plus,$(sources)) $(sources) $(if $(ADD),$(call plus,$(sources) $(ADD))))
parts = $(subst +, ,$1)
fitted = $(if $(filter domain advantage-domain,$(FUNCTION) $(WEIGHT)),$(call weights,$1))
$(foreach m,$(mixes),$(eval $(call weights_rule,$(call parts,$m))))
$(foreach m,$(mixes),$(eval $(call fuse_rule,$m-$(how),$(learnt),$(call parts,$m),$(fusion),$(call fitted,$(call parts,$m)))))
$(foreach m,$(mixes),$(eval $(call train_rule,$(call fused,$(call parts,$m)),$(of)/targets/$m-$(how),$(LAMBDA),$(start),$(start_files))))

# CLM needs the tokens only, so it does not depend on the sources.
clm := clm-$(schedule)
$(eval $(call train_rule,$(clm),$(call logits,train),1,$(start),$(start_files)))

trained = $(of)/train/$1/config.json
row = --model $1=$(of)/train/$2

# What a command ends with: a report and its page, kept as NAME in WORK as well, and the table printed. Report, name.
define finish
	@for f in json md html; do cp $(of)/report/$1.$$f $(WORK)/$2.$$f || exit; done
	@cat $(of)/report/$1.txt
	@echo "Saved as $(WORK)/$2.html (a page for a browser), $(WORK)/$2.json and $(WORK)/$2.md$(if $3,; the $3)"
endef

# ---- make demo ----

demo_name := $(call plus,$(sources))-$(how)-$(LAMBDA)-$(schedule)
# A report's name. What is too long for a file's is its beginning and a checksum of it all.
short = $(shell name='$1'; if [ "$$(expr "x$$name" : '.*')" -le 201 ]; then echo "$$name"; else printf '%.150s.%s\n' "$$name" "$$(printf %s "$$name" | cksum | cut -d ' ' -f 1)"; fi)
demo_report := $(call short,$(demo_name)$(task_tag))
demo_fused := $(call fused,$(sources))
demo_mix := $(call plus,$(sources))-$(how)
# The mean of both models' weights: text taught one, text and sources the other, and what each got wrong on its own averages out.
halfway := halfway-$(demo_name)
$(eval $(call merge_rule,linear,$(halfway),$(clm) $(demo_fused)))
$(eval $(call report_rule,$(demo_report),$(sources) $(TARGET),$(call as_they_come,$(sources)) \
	  $(call row,clm,$(clm)) $(call row,fused,$(demo_fused)) --model fused+clm=$(of)/merged/$(halfway) \
	  --compare fused$(comma)target --compare fused$(comma)clm --compare fused+clm$(comma)clm,\
	  $(call trained,$(clm)) $(call trained,$(demo_fused)) $(of)/merged/$(halfway)/config.json))
$(eval $(call page_rule,$(demo_report),fused,clm=$(of)/train/$(clm) fused=$(of)/train/$(demo_fused) fused+clm=$(of)/merged/$(halfway),$(demo_mix),$(sources)))
demo: $(of)/report/$(demo_report).html
	$(call finish,$(demo_report),report,fused model is the folder $(of)/train/$(demo_fused)$(comma) and fused+clm $(of)/merged/$(halfway))

# ---- make pairs: FuseChat's way. The target with each source, and the results merged ----

MERGES ?= linear $(if $(filter 2,$(words $(sources))),slerp) task-arithmetic ties dare varm $(if $(word 2,$(sources)),sce)
$(call one_of,MERGES,linear slerp task-arithmetic ties dare dare-ties varm sce)
# What comes of a target has a name in tables, where a model as it comes goes by its own.
$(foreach m,$(models),$(if $(filter $m,$(if $(filter $m,$(TARGET)),,target) clm fused kd merged ensemble continual $(MERGES)),$(error $m: a model's name must not be \
  that of a row of the tables: give it another in $(DATA)/models)))
merge_tag = $(if $(filter ties dare dare-ties,$1),$(DENSITY))$(if $(filter sce,$1),$(SELECT))
merged = $1$(call merge_tag,$1)-$(demo_name)
pairs := $(foreach s,$(sources),$(call fused,$s))
# linear is one of the baselines, whatever there is of these.
$(foreach m,$(sort linear $(MERGES)),$(eval $(call merge_rule,$m,$(call merged,$m),$(pairs))))

pairs_report := $(call short,pairs-$(call plus,$(foreach m,$(MERGES),$m$(call merge_tag,$m)))-$(demo_name)$(task_tag))
$(eval $(call report_rule,$(pairs_report),$(sources) $(TARGET),$(call as_they_come,$(sources)) $(call row,clm,$(clm)) \
	  $(foreach s,$(sources),$(call row,target+$s,$(call fused,$s))) \
	  $(foreach m,$(MERGES),--model $m=$(of)/merged/$(call merged,$m)) \
	  $(foreach m,$(MERGES),--compare $m$(comma)clm),\
	  $(call trained,$(clm)) $(foreach p,$(pairs),$(call trained,$p)) $(foreach m,$(MERGES),$(of)/merged/$(call merged,$m)/config.json)))
$(eval $(call page_rule,$(pairs_report),,clm=$(of)/train/$(clm) $(foreach s,$(sources),target+$s=$(of)/train/$(call fused,$s)) \
	  $(foreach m,$(MERGES),$m=$(of)/merged/$(call merged,$m)),$(sources:%=%-$(how)),$(sources)))
pairs: $(of)/report/$(pairs_report).html
	$(call finish,$(pairs_report),pairs,merged models are in $(of)/merged)

# On conversations: only the replies are learnt and measured. Gemma as it comes is no chat model and has no template of its own.
# WORK and DOMAINS of the command line count here, too.
CHAT_DOMAINS ?= $(if $(filter DOMAINS,$(given)),$(DOMAINS),faq chitchat)
CHAT_WORK    ?= $(if $(filter WORK,$(given)),$(WORK),work/fusechat)
fusechat-demo:
	+@$(MAKE) --no-print-directory pairs WORK=$(CHAT_WORK) DOMAINS="$(CHAT_DOMAINS)" \
		CHAT_TEMPLATE_gemma3-270m=$(or $(CHAT_TEMPLATE_gemma3-270m),gemma3)

# ---- make baselines: what fusion is compared with in the papers ----

# Distillation from one source, without the target's own distribution and on all text alike.
KD ?= $(lastword $(sources))
kd := kd-$(KD)$(align_tag)$(adapt_tag)$(tail_tag)$(learnt_tag)
$(eval $(call fuse_rule,$(kd),$(learnt),$(KD),--with-target no --tail $(TAIL)))
kd_model := $(kd)-$(LAMBDA)-$(schedule)
$(eval $(call train_rule,$(kd_model),$(of)/targets/$(kd),$(LAMBDA),$(start),$(start_files)))

# All models at once, nothing trained: what they say of the test text, mixed by what each predicted so far.
ENSEMBLE ?= dynamic
$(call one_of,ENSEMBLE,min-ce avg-ce dynamic)
ensemble := ensemble-$(call plus,$(sources))-$(ENSEMBLE)$(align_tag)
$(eval $(call fuse_rule,$(ensemble),test,$(sources),--function $(ENSEMBLE)))

baselines_report := $(call short,baselines-$(KD)-$(ENSEMBLE)-$(demo_name)$(task_tag))
$(eval $(call report_rule,$(baselines_report),$(sources) $(TARGET),$(call as_they_come,$(sources)) $(call row,clm,$(clm)) \
	  $(call row,kd,$(kd_model)) --model merged=$(of)/merged/$(call merged,linear) --mixture ensemble=$(of)/targets/$(ensemble) \
	  $(call row,fused,$(demo_fused)) --compare fused$(comma)clm --compare fused$(comma)kd --compare fused$(comma)merged,\
	  $(call trained,$(clm)) $(call trained,$(kd_model)) $(call trained,$(demo_fused)) $(of)/merged/$(call merged,linear)/config.json \
	  $(of)/targets/$(ensemble)/manifest.json))
$(eval $(call page_rule,$(baselines_report),fused,clm=$(of)/train/$(clm) kd=$(of)/train/$(kd_model) \
	  merged=$(of)/merged/$(call merged,linear) fused=$(of)/train/$(demo_fused),$(demo_mix) $(kd),$(sources)))
baselines: $(of)/report/$(baselines_report).html
	$(call finish,$(baselines_report),baselines)

# ---- make stage-NAME: the sets of one stage for make demo, and those before it. The last lines printed are their folders ----

stage-corpus  := $(sets:%=$(run)/corpus/%)
stage-logits  := $(foreach s,$(learnt) test $(if $(call fitted,$(sources)),valid),$(call logits,$s) $(foreach m,$(sources),$(call said,$s,$m)))
stage-aligned := $(foreach s,$(learnt) $(if $(call fitted,$(sources)),valid),$(foreach m,$(sources),$(call aligned,$s,$m)))
stage-targets := $(of)/targets/$(demo_mix)
stages := stage-corpus stage-logits stage-aligned stage-targets
$(foreach s,$(stages),$(eval $s: $($s:%=%/manifest.json)))
$(stages):
	@printf '%s\n' $($@)
# By what is done, which are names of folders here; a Makefile of one's own may have such targets itself.
fuse: demo
ifndef KFUSE_MK
extract: stage-logits
align: stage-aligned
train: train-fused
.PHONY: extract align train
endif

# ---- make train-NAME: one model alone. The last line printed is its folder ----

train-fused: $(call trained,$(demo_fused))
train-clm: $(call trained,$(clm))
train-kd: $(call trained,$(kd_model))
ensemble: $(of)/targets/$(ensemble)/manifest.json
train-fused train-clm train-kd ensemble:
	@echo $(<D)

# What they learn from: made first where several are trained at a time, each by its own make (data/experiments.py).
ready-fused: $(of)/targets/$(demo_mix)/manifest.json
ready-clm: $(call logits,train)/manifest.json
ready-kd: $(of)/targets/$(kd)/manifest.json
ready-fused ready-clm ready-kd: $(run)/corpus/valid/manifest.json $(start_files)

# ---- make continual ADD=MODEL: a source more for the fused model. Only ADD is extracted and aligned ----

continual := continual-$(ADD)-on-$(demo_fused)
continual_report := $(call short,$(continual)$(task_tag))
all_sources := $(sort $(sources) $(ADD))
$(if $(ADD),$(eval $(call train_rule,$(continual),$(of)/targets/$(call plus,$(all_sources))-$(how),$(LAMBDA),$(of)/train/$(demo_fused),\
	$(call trained,$(demo_fused)))))
$(if $(ADD),$(eval $(call report_rule,$(continual_report),$(all_sources) $(TARGET),$(call as_they_come,$(all_sources)) \
	  $(call row,fused,$(demo_fused)) $(call row,continual,$(continual)) --compare continual$(comma)fused,\
	  $(call trained,$(demo_fused)) $(call trained,$(continual)))))
$(if $(ADD),$(eval $(call page_rule,$(continual_report),continual,fused=$(of)/train/$(demo_fused) continual=$(of)/train/$(continual),\
	  $(demo_mix) $(call plus,$(all_sources))-$(how),$(all_sources))))
continual: $(if $(ADD),$(of)/report/$(continual_report).html)
	@$(if $(ADD),:,echo "make continual: which model to add? for example: make continual SOURCES=gemma3-270m ADD=qwen2.5-coder-0.5b" >&2; exit 2)
	$(call finish,$(continual_report),continual,model is the folder $(of)/train/$(continual))

# ---- make tasks: models as they come, on tasks ----

ASKED ?= $(or $(TASKS),hellaswag truthfulqa quartz)
asked_files = $(foreach t,$(ASKED),$(call task_file,$t))
tasks: $(asked_files) $(foreach m,$(sources) $(TARGET),$(call model_files,$m)) | $(bin)/kf-eval
	@mkdir -p $(WORK)
	$(bin)/kf-eval $(foreach m,$(TARGET) $(sources),--model $m=$(call model,$m)) $(call asked_with,$(TARGET) $(sources)) $(addprefix --tasks ,$(asked_files)) \
	  $(task_limit) --scores $(WORK)/scores --report $(WORK)/tasks.json --markdown $(WORK)/tasks.md --threads $(THREADS)
	@echo "Saved as $(WORK)/tasks.json and $(WORK)/tasks.md"

# What the pipeline made, and the folder if that was all.
results := $(foreach r,report pairs baselines continual tasks,$(addprefix $r.,json md html))
clean-demo:
	rm -rf $(patsubst %/corpus,%,$(wildcard $(WORK)/docs[0-9]*/corpus)) $(addprefix $(WORK)/,maps scores $(results))
	@rmdir $(WORK) 2>/dev/null || true
.PHONY: $(stages) fuse train-fused train-clm train-kd ready-fused ready-clm ready-kd ensemble tasks demo pairs fusechat-demo baselines continual clean-demo
