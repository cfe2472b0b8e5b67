-- The columns that grade a lead, and the one definition of its quality. NULL in set or demo counts as 0.
coalesce(set = 1, false) as appointment_scheduled,
coalesce(demo = 1, false) as demo_scheduled,
null::float as conversion_rate,
case when set = 1 and demo = 1 then 'High Quality' when set = 1 then 'Medium Quality' else 'Low Quality' end as lead_quality_flag
