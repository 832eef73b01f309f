"""The three evaluation protocols, by their names in files, tables and logs."""

SAMPLED, FULL, UNSEEN = "sampled100", "full", "full_unseen"
PROTOCOLS = {
    SAMPLED: "stored negatives",
    FULL: "whole catalogue",
    UNSEEN: "whole catalogue, seen items left out",
}
EXPLAINED = {
    SAMPLED: "the user's next item, ranked among stored negatives",
    FULL: "the user's next item, ranked among the whole catalogue",
    UNSEEN: "the user's next item, ranked among itself and the items that the user has not had before",
}
