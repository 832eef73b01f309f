"""The three protocols of every result, by the names that files, tables and logs have for them."""

SAMPLED, FULL, UNSEEN = "sampled100", "full", "full_unseen"
PROTOCOLS = {
    SAMPLED: "100 stored negatives",
    FULL: "whole catalogue",
    UNSEEN: "whole catalogue, seen items left out",
}
EXPLAINED = {
    SAMPLED: "target among its stored negatives",
    FULL: "target among the whole catalogue",
    UNSEEN: "target among the items of the catalogue that the user has not had before",
}
