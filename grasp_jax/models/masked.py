"""The logit of what a softmax leaves out."""

# It is far below every score, so its weight in a softmax is 0. With -inf, a softmax that leaves out everything would have weights and
# gradients of NaN.
MASKED = -1e9
