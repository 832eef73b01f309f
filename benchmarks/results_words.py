"""The text of docs/results.md around its tables."""

BEGINNING = """# Results

To choose a method, read the first table: most methods under one protocol. To compare with the GRASP paper, read the second part: its
methods under its protocol and on its data. The last part has all numbers of every run. `python -m benchmarks.readme_tables` generates this
page from `benchmarks/results`. In the commands, `python -m grasp_jax.main` is the same program as `grasp-jax`. Folders such as
`../shared/data/beauty5` are ours: write your own folder in their place.

## How to read the tables

* **Protocols.** `sampled100`: the target is ranked among 100 stored negatives, as in the paper. `full`: it is ranked among the whole
  catalogue. `full_unseen`: the same, without the items that the user has had before, as RecTools reports. The older runs on this page do
  not have `full_unseen`. [Evaluation protocols](protocols.md) says what each protocol can and cannot tell.
* **Groups.** Tail items and tail users are those with few training interactions. Runs with "tail and head as the paper counts them" have
  the paper's groups ([Departures from the papers](deviations.md)), which differ from ours.
* **Parts of `grasp_plus`.** A *tower* is one of the models whose scores are added. The *match* is the cosine of an item's text with the
  texts of the history.
* **Order within a day.** Amazon's data has days, not times of day. In Beauty 5-core, 44 % of the pairs of consecutive interactions share a
  day, and the file sorts these by item id. So for nearly half of the targets, the "next" item depends on the order of the file and not on
  the order of events, here and in published numbers on the same file. With a random order within a day (`data.ties=shuffle`), `grasp_plus`
  is still ahead ([Studies](studies.md#another-split-another-order-within-a-day)).

## Most methods under one protocol

**What it means.** By each protocol, `grasp_plus` or one of its variants has the highest NDCG@10. On tail items, the cosine of texts
(`semantic_neighbours`) and one ID tower with the match have more. GRASP was trained only with its own loss, and of UniSRec only the variant
with IDs. [Studies](studies.md#late-fusion-compared-with-id-only-models) explains the rows and their limits.

"""
PAPER = """## The paper's methods with the paper's protocol

**What it means.** Among 100 negatives, GRASP is the best of the paper's methods with SASRec and GRU4Rec, above all on tail
items. With BERT4Rec its lead over LLM-ESR is small, and LLM-ESR was corrected after these runs (below). On the whole catalogue, generative
RLMRec has a higher NDCG@10 than GRASP with each backbone. With SASRec (three seeds) the difference is significant; with the other backbones
(one seed) it is not shown.
`grasp_plus` leads by both protocols, but it has another loss, the softmax over shared negatives, which is its most important part
([Studies](studies.md#the-parts-of-grasp_plus-with-early-fusion)).

These runs are older than the table above. Each method is trained with the loss of its paper and one seed, and `grasp_plus`
uses early fusion (`model.plus.fusion=early`).

* The rows of LLM-ESR and RLMRec were made before we corrected these two methods to follow their authors' code. The corrected LLM-ESR has
  34.9 among 100 negatives with the same loss ([Studies](studies.md#published-losses)), 2.1 more than the mean of its three seeds here. The
  correction may explain only a part of this, because that run also validated on the whole catalogue and chose another dropout. The effect
  on RLMRec was not measured.
* Validation chose the dropout of plain, GRASP and LLM-ESR on SASRec only; the other rows reuse it. GRASP has a learning rate of 3e-3,
  because it needs twice the epochs with 1e-3.
* Results vary between seeds. Three seeds of each method on SASRec have a standard deviation of 0.1 to 0.5 points of the sampled NDCG@10;
  the section "The SASRec rows of that table, with three seeds" has them. So one seed does not show a difference between plain and LLM-ESR,
  nor, on the full catalogue, between generative RLMRec, LLMInit and GRASP.

**The paper's own data**, backbones without text: SASRec, and GRU4Rec with the protocol of LLM-ESR's code, are within a point of the paper's
NDCG@10. BERT4Rec on Fashion is not reproduced.

* SASRec has an NDCG@10 of 44.4 on Fashion (the paper: 44.1) and 31.5 on Beauty (30.6), over three seeds.
* GRU4Rec and BERT4Rec are 2.6 to 4.5 points above the paper with our protocol. With the protocol of LLM-ESR's code, from which the paper
  takes its rows, both are within 0.8 points of the paper's NDCG@10 (means of three seeds on Fashion, one seed on Beauty) and within 0.5
  points of its HR@10, except for BERT4Rec on Fashion: its NDCG@10 is 1.0 below and its HR@10 2.7 above.
* By groups (the next two tables, counted as in the paper), SASRec and GRU4Rec are within 0.8 points of the paper's NDCG@10 on Fashion and
  within 1.1 points of its HR@10. BERT4Rec differs by up to 1.3 and 4.6 points: it hits more head items and fewer tail items. The shares of
  tail users and tail items are those that follow from the paper's tables. The other runs on the paper's data, among them all on Beauty, are
  older, and their groups count training interactions.

"""
ALL_RUNS = """## All numbers of every run

For looking up a number; ± is the standard deviation between seeds.

"""
