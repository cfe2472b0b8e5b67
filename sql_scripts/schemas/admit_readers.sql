-- Grants bi_reader and analyst read access to existing and future tables and views of their schemas, but not to
-- gold.users.password_hash. Safe to rerun: only missing privileges are granted, because a grant writes to the catalog. Roles
-- that do not exist, and objects of other owners, are skipped.

do $$
declare
    reader record;
    layer regnamespace;
    ungranted regclass;
begin
    for reader in
        select *
        from (
            values
            ('bi_reader', array['gold'], array['gold']),
            -- Days keep their grants when they move from staging to silver. Without usage, analyst can read nothing in staging.
            ('analyst', array['bronze', 'silver', 'gold', 'meta'], array['bronze', 'silver', 'gold', 'meta', 'staging'])
        ) as readers (name, schemas, schemas_of_new_tables)
        where to_regrole(name) is not null
    loop
        if
            not has_database_privilege(reader.name, current_database(), 'connect')
            and exists (select from pg_database where datname = current_database() and pg_has_role(datdba, 'usage'))
        then
            execute format('grant connect on database %I to %I', current_database(), reader.name);
        end if;
        foreach layer in array reader.schemas::regnamespace[]
        loop
            if not has_schema_privilege(reader.name, layer, 'usage') then
                execute format('grant usage on schema %s to %I', layer, reader.name);
            end if;
        end loop;
        foreach layer in array reader.schemas_of_new_tables::regnamespace[]
        loop
            if not exists (
                select from pg_default_acl
                where
                    defaclrole = (select oid from pg_roles where rolname = current_user)
                    and defaclnamespace = layer
                    and defaclobjtype = 'r'
                    and exists (
                        select from aclexplode(defaclacl)
                        where grantee = reader.name::regrole and privilege_type = 'SELECT'
                    )
            ) then
                execute format('alter default privileges in schema %s grant select on tables to %I', layer, reader.name);
            end if;
        end loop;
        for ungranted in
            select oid
            from pg_class
            where
                relnamespace = any(reader.schemas::regnamespace[])
                and relkind in ('r', 'p', 'v', 'm')
                and pg_has_role(relowner, 'usage')
                and not has_table_privilege(reader.name, oid, 'select')
                and oid is distinct from to_regclass('gold.users')
        loop
            execute format('grant select on %s to %I', ungranted, reader.name);
        end loop;
        -- All columns of users but password_hash. The default privileges above grant all columns of a new table.
        if exists (select from pg_class where oid = to_regclass('gold.users') and pg_has_role(relowner, 'usage')) then
            if has_table_privilege(reader.name, 'gold.users', 'select') then
                execute format('revoke select on gold.users from %I', reader.name);
            end if;
            if not has_column_privilege(reader.name, 'gold.users', 'username', 'select') then
                execute format('grant select (user_id, username, role) on gold.users to %I', reader.name);
            end if;
        end if;
    end loop;
end
$$;
