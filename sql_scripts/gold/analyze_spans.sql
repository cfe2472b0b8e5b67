-- Tells the planner what stands in the spans.

analyze staging.spans;
