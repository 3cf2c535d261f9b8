//! `#[derive(Row)]`: a struct as a row of a result table. A column is a field: its doc comment is the column's
//! description, its type the column's type (`Option` where a value may be missing).
//!
//! ```text
//! /// Accuracy at each level of noise.                <- description of the table
//! #[derive(Row)]
//! #[table(name = "accuracy")]
//! struct Accuracy {
//!     /// The network
//!     #[column(key, slot = "models")]
//!     model: usize,
//!     /// Standard deviation of the noise
//!     #[column(key, unit = "1")]
//!     level: f64,
//!     /// Share of images classified right
//!     #[column(absolute = 1e-3)]
//!     accuracy: Option<f64>,
//! }
//! ```
//!
//! | attribute of a field | is |
//! |---|---|
//! | `key` | part of what identifies a row |
//! | `unit = "ms"` | the column's unit |
//! | `slot = "models"` | the input slot whose members the number counts |
//! | `group = "models"` | the same, by the first of members that repeat each other |
//! | `absolute = 1e-3`, `relative = 1e-6` | how far two values may lie apart and still be equal in a difference |
//! | `name = "type"` | the column's name, where it is no name of a field |
//! | `description = EXPRESSION` | the description in place of a doc comment |
//! | `flatten` | the columns of another row |

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, Field, Fields, Lit, LitStr, Meta, Result};

/// Derives `dynvis_runner::table::Row`, and `TableRow` where a `#[table(name = "…")]` names a table. See the crate.
#[proc_macro_derive(Row, attributes(table, column))]
pub fn row(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    derive(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn derive(input: &DeriveInput) -> Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.span(), "a row is a struct"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(input.span(), "a row's fields have names"));
    };
    let columns: Vec<Column> = fields.named.iter().map(Column::of).collect::<Result<_>>()?;
    let schema = columns.iter().map(Column::schema);
    let cells = columns.iter().map(Column::cells);
    let (name, (generics, types, bounds)) = (&input.ident, input.generics.split_for_impl());
    let table = match table_name(&input.attrs)? {
        None => quote!(),
        Some(table) => {
            let description = documentation(&input.attrs);
            quote! {
                impl #generics ::dynvis_runner::table::TableRow for #name #types #bounds {
                    const NAME: &'static str = #table;
                    const DESCRIPTION: &'static str = #description;
                }
            }
        }
    };
    Ok(quote! {
        impl #generics ::dynvis_runner::table::Row for #name #types #bounds {
            fn columns(schema: ::dynvis_runner::table::TableSchema) -> ::dynvis_runner::table::TableSchema {
                #(#schema)*
                schema
            }

            fn cells(self, row: &mut ::std::vec::Vec<::dynvis_runner::table::Value>) {
                #(#cells)*
            }
        }
        #table
    })
}

/// What a field's attributes say.
struct Column<'a> {
    field: &'a Field,
    name: Option<LitStr>,
    description: Option<Expr>,
    is_key: bool,
    is_flat: bool,
    unit: Option<Expr>,
    slot: Option<Expr>,
    group: Option<Expr>,
    absolute: Option<Expr>,
    relative: Option<Expr>,
}

impl<'a> Column<'a> {
    fn of(field: &'a Field) -> Result<Self> {
        let mut column = Self {
            field,
            name: None,
            description: None,
            is_key: false,
            is_flat: false,
            unit: None,
            slot: None,
            group: None,
            absolute: None,
            relative: None,
        };
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("column")) {
            attribute.parse_nested_meta(|meta| {
                let is = |name: &str| meta.path.is_ident(name);
                if is("key") {
                    column.is_key = true;
                } else if is("flatten") {
                    column.is_flat = true;
                } else if is("name") {
                    column.name = Some(meta.value()?.parse()?);
                } else {
                    let place = match meta.path.get_ident().map(ToString::to_string).as_deref() {
                        Some("description") => &mut column.description,
                        Some("unit") => &mut column.unit,
                        Some("slot") => &mut column.slot,
                        Some("group") => &mut column.group,
                        Some("absolute") => &mut column.absolute,
                        Some("relative") => &mut column.relative,
                        _ => {
                            let known = "key, flatten, name, description, unit, slot, group, absolute or relative";
                            return Err(meta.error(format!("no attribute of a column; there is {known}")));
                        }
                    };
                    *place = Some(meta.value()?.parse()?);
                }
                Ok(())
            })?;
        }
        if !column.is_flat && column.description.is_none() && documentation(&field.attrs).is_empty() {
            return Err(Error::new(
                field.span(),
                "a column needs a doc comment, its description",
            ));
        }
        Ok(column)
    }

    fn schema(&self) -> Tokens {
        let kind = &self.field.ty;
        if self.is_flat {
            return quote!(let schema = <#kind as ::dynvis_runner::table::Row>::columns(schema););
        }
        let name = match (&self.name, &self.field.ident) {
            (Some(name), _) => name.value(),
            (None, Some(ident)) => ident.to_string(),
            (None, None) => String::new(),
        };
        let description = match &self.description {
            Some(expression) => quote!(#expression),
            None => {
                let text = documentation(&self.field.attrs);
                quote!(#text)
            }
        };
        let cell = quote!(<#kind as ::dynvis_runner::table::Cell>);
        let append = if self.is_key { quote!(key) } else { quote!(value) };
        let mut tokens = quote!(let schema = schema.#append(#name, #cell::DTYPE, #description););
        let mut add = |method: Tokens| tokens.extend(quote!(let schema = schema.#method;));
        if let Some(unit) = &self.unit {
            add(quote!(unit(#unit)));
        }
        if let Some(slot) = &self.slot {
            add(quote!(slot(#slot)));
        }
        if let Some(group) = &self.group {
            add(quote!(slot_groups(#group)));
        }
        if self.absolute.is_some() || self.relative.is_some() {
            let or_zero = |value: &Option<Expr>| value.as_ref().map_or_else(|| quote!(0.0), |value| quote!(#value));
            let (absolute, relative) = (or_zero(&self.absolute), or_zero(&self.relative));
            add(quote!(tolerance(#absolute, #relative)));
        }
        tokens.extend(quote! {
            let schema = if #cell::MAY_BE_MISSING { schema.allow_missing() } else { schema };
        });
        tokens
    }

    fn cells(&self) -> Tokens {
        let name = &self.field.ident;
        match self.is_flat {
            true => quote!(::dynvis_runner::table::Row::cells(self.#name, row);),
            false => quote!(row.push(::dynvis_runner::table::Cell::cell(self.#name));),
        }
    }
}

fn table_name(attributes: &[Attribute]) -> Result<Option<LitStr>> {
    let mut name = None;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("table")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("no attribute of a table; there is name"));
            }
            name = Some(meta.value()?.parse()?);
            Ok(())
        })?;
    }
    Ok(name)
}

/// The doc comment as one line.
fn documentation(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let lines: Vec<String> = attributes
        .iter()
        .filter_map(line)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}
