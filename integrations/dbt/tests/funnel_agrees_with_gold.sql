-- Failing rows: states whose counts in lead_funnel and in gold differ.
with counted as (
    select
        state,
        count(*) as lead_count,
        count(*) filter (where reached_appointment) as appointment_count,
        count(*) filter (where reached_demo) as demo_count,
        count(*) filter (where reached_sale) as sale_count
    from {{ ref('lead_funnel') }}
    group by state
),

gold as (
    select
        state,
        lead_count,
        appointment_count,
        demo_count,
        sale_count
    from {{ source('gold', 'conversion_funnel_per_state') }}
)

(table counted except table gold)
union all
(table gold except table counted)
