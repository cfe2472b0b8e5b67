-- What the role bi_reader may do: read gold, also tables and views that come later, and nothing else. Safe to rerun; what is
-- granted already is not granted again, because that would write to the catalog at each run. Without the role nothing happens.

do $$
declare
    ungranted regclass;
begin
    if to_regrole('bi_reader') is null then
        return;
    end if;
    if
        not has_database_privilege('bi_reader', current_database(), 'connect')
        and exists (select from pg_database where datname = current_database() and pg_has_role(datdba, 'usage'))
    then
        execute format('grant connect on database %I to bi_reader', current_database());
    end if;
    if not has_schema_privilege('bi_reader', 'gold', 'usage') then
        grant usage on schema gold to bi_reader;
    end if;
    if not exists (
        select from pg_default_acl
        where
            defaclrole = (select oid from pg_roles where rolname = current_user)
            and defaclnamespace = 'gold'::regnamespace
            and defaclobjtype = 'r'
            and exists (select from aclexplode(defaclacl) where grantee = 'bi_reader'::regrole and privilege_type = 'SELECT')
    ) then
        alter default privileges in schema gold grant select on tables to bi_reader;
    end if;
    for ungranted in
        select oid
        from pg_class
        where
            relnamespace = 'gold'::regnamespace
            and relkind in ('r', 'p', 'v', 'm')
            and pg_has_role(relowner, 'usage')
            and not has_table_privilege('bi_reader', oid, 'select')
    loop
        execute format('grant select on %s to bi_reader', ungranted);
    end loop;
end
$$;
