-- Grain: one row per snapshot day. is_sound is false on days with an anomaly of set or demo, the flags that determine quality, and
-- on days on which a flag is 1 in no row, although it is in rows of other days: accepting that as a change does not make it true.
select
    days._partition_date,
    days.total_leads as lead_count,
    quality.lead_count as high_quality_count,
    not exists (
        select from {{ source('gold', 'data_anomalies') }} as anomalies
        where
            anomalies._partition_date = days._partition_date
            and anomalies.metric similar to '(set\_|demo\_)%|appt\_date\_without\_set\_share|sale\_without\_demo\_share'
    )
    and not exists (
        select from {{ source('gold', 'daily_metrics') }} as zero
        inner join {{ source('gold', 'daily_metrics') }} as other using (metric)
        where
            zero._partition_date = days._partition_date
            and zero.metric in ('set_share', 'demo_share')
            and zero.value = 0
            and zero.row_count >= 50
            and other.value > 0
    ) as is_sound
from {{ source('gold', 'leads_per_day') }} as days
inner join {{ source('gold', 'lead_quality_per_day') }} as quality using (_partition_date)
where quality.lead_quality_flag = 'High Quality'
