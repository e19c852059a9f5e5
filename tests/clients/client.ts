// What a program in TypeScript writes with the types that are made of the schema.
import type { components, paths } from "./openapi";

type Body<Path extends keyof paths> = paths[Path] extends {
  post: { requestBody: { content: infer Content } };
}
  ? Content
  : never;
type Only<Content> = Content extends { "application/json": infer Value } ? Value : never;

export const signUp: Only<Body<"/org/create">> = {
  email: "ada@example.com",
  password: "correct horse battery",
  organization_name: "Acme",
};
// @ts-expect-error: the name lacks
export const nameless: Only<Body<"/org/create">> = { email: "a@example.com", password: "x" };
// One type of body, and no form beside it.
export const kind: keyof Body<"/api/v1/users/"> = "application/json";
// @ts-expect-error: forms are the browsable API's own
export const form: keyof Body<"/api/v1/users/"> = "multipart/form-data";

type Users = paths["/api/v1/users/"]["get"]["responses"][200]["content"]["application/json"];
export function addresses(users: Users): string[] {
  return users.results.map((user) => user.email);
}
type Audit = paths["/api/v1/audit/"]["get"]["responses"][200]["content"]["application/json"];
export function older(entries: Audit): string | null | undefined {
  return entries.next;
}
export function words(error: components["schemas"]["ErrorOutput"]): string[] {
  return [error.detail, error.code, ...Object.values(error.fields ?? {}).flat()];
}
