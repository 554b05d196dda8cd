"""What chance would give: nulls, p-values, corrections, intervals, and scores at one n."""
