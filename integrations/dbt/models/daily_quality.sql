-- Grain: one row per snapshot day. is_sound is false on days with an anomaly of set or demo, the flags that determine quality.
select
    days._partition_date,
    days.total_leads as lead_count,
    quality.lead_count as high_quality_count,
    not exists (
        select from {{ source('gold', 'data_anomalies') }} as anomalies
        where
            anomalies._partition_date = days._partition_date
            and anomalies.metric similar to '(set\_|demo\_)%|appt\_date\_without\_set\_share|sale\_without\_demo\_share'
    ) as is_sound
from {{ source('gold', 'leads_per_day') }} as days
inner join {{ source('gold', 'lead_quality_per_day') }} as quality using (_partition_date)
where quality.lead_quality_flag = 'High Quality'
